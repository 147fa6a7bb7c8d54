package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// configTemplate is containerd's configuration, version 2 (read by 1.6 and newer).
//
// restrict_oom_score_adj: runc may not lower oom_score_adj without CAP_SYS_RESOURCE, and then dies with "can't get final
// child's PID from pipe: EOF". The runc root and the network namespaces would otherwise lie in the host's folders.
const configTemplate = `version = 2
root = "{{.Root}}"
state = "{{.State}}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{{.Socket}}"

[ttrpc]
  address = "{{.Socket}}.ttrpc"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.SandboxImage}}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{{.CNIBin}}"
    conf_dir = "{{.CNIConf}}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{{.RuncRoot}}"
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{{.CertsDir}}"
`

// configTemplate3 is the same for containerd 2, whose CRI plugin is several.
const configTemplate3 = `version = 3
root = "{{.Root}}"
state = "{{.State}}"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri"]

[grpc]
  address = "{{.Socket}}"

[ttrpc]
  address = "{{.Socket}}.ttrpc"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"

  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{{.SandboxImage}}"

[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{{.CertsDir}}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{{.CNIBin}}"]
    conf_dir = "{{.CNIConf}}"

  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        Root = "{{.RuncRoot}}"
        SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
`

const conflistTemplate = `{
  "cniVersion": "0.4.0",
  "name": "{{.Bridge}}",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "{{.Bridge}}",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "{{.IPAM}}",
        "ranges": [[{"subnet": "{{.Subnet}}"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// layout is where everything of one Runtime lies.
type layout struct {
	Root, State, Socket, RuncRoot, CNIBin, CNIConf, IPAM string
	ConfigFile, LogFile, BridgeFile                      string
	Bridge, Subnet                                       string
	SandboxImage                                         string
	CertsDir                                             string // folders of registries, each with a hosts.toml
	Pinns, Home                                          string // of CRI-O
	config                                               string // template of the configuration
	args                                                 []string
}

func newLayout(o Options, stateDir string) layout {
	in := func(name string) string { return filepath.Join(o.Dir, name) }
	l := layout{
		Root: in("root"), CNIConf: in("cni"), IPAM: in("ipam"),
		ConfigFile: in("config.toml"), LogFile: in("containerd.log"), BridgeFile: in("bridge"),
		State: filepath.Join(stateDir, "state"), RuncRoot: filepath.Join(stateDir, "runc"),
		Socket:   filepath.Join(stateDir, "containerd.sock"),
		CertsDir: in("certs.d"), SandboxImage: o.SandboxImage, config: map[bool]string{false: configTemplate, true: configTemplate3}[o.Version2],
	}
	l.args = []string{"--config", l.ConfigFile}
	if o.CRIO != "" {
		l.useCRIO(o.Dir, o.CRIO)
	}
	return l
}

// write makes the folders and writes the configuration files.
func (l *layout) write() error {
	for _, dir := range []string{l.Root, l.CNIConf, l.IPAM, l.State, l.RuncRoot, l.CertsDir} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make containerd's folders: %w", err)
		}
	}
	files := map[string]string{l.ConfigFile: l.config}
	if l.Bridge != "" {
		files[filepath.Join(l.CNIConf, "10-rig.conflist")] = conflistTemplate
	}
	for path, text := range files {
		var b bytes.Buffer
		if err := template.Must(template.New(path).Parse(text)).Execute(&b, l); err != nil {
			return fmt.Errorf("fill in %s: %w", path, err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			return fmt.Errorf("write containerd's configuration: %w", err)
		}
	}
	return l.writeHome()
}

// findCNI returns the folder of the CNI plugins: Debian's, or the one upstream uses.
func findCNI() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no CNI plugins in /usr/lib/cni or /opt/cni/bin: install them with `apt-get install containernetworking-plugins`")
}

// claimBridge makes a bridge that no other rig has, and with it claims a subnet. A bridge claimed earlier for the same
// folder is used again: the pods in it are still there.
func (l *layout) claimBridge() error {
	if old, err := os.ReadFile(l.BridgeFile); err == nil {
		name := strings.TrimSpace(string(old))
		var n int
		if _, err := fmt.Sscanf(name, "skrig%d", &n); err == nil {
			if _, err := net.InterfaceByName(name); err != nil {
				if err := ip("link", "add", name, "type", "bridge"); err != nil {
					return fmt.Errorf("make the pods' bridge again: %w", err)
				}
			}
			l.useBridge(n)
			return nil
		}
	}
	for n := range 256 {
		name := fmt.Sprintf("skrig%d", n)
		if _, err := net.InterfaceByName(name); err == nil {
			continue
		}
		if err := ip("link", "add", name, "type", "bridge"); err != nil {
			if strings.Contains(err.Error(), "File exists") { // another rig was faster
				continue
			}
			return fmt.Errorf("make the pods' bridge: %w", err)
		}
		l.useBridge(n)
		if err := os.WriteFile(l.BridgeFile, []byte(name+"\n"), 0o600); err != nil {
			return errors.Join(fmt.Errorf("note the pods' bridge: %w", err), ip("link", "del", name))
		}
		return nil
	}
	return errors.New("all 256 bridges skrig0 to skrig255 exist: remove leftovers with `ip link del skrigN`")
}

func (l *layout) useBridge(n int) {
	l.Bridge, l.Subnet = fmt.Sprintf("skrig%d", n), fmt.Sprintf("10.212.%d.0/24", n)
}

func ip(args ...string) error {
	if output, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}
