package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// crioTemplate is CRI-O's configuration (crio.conf(5)). conmon lives in the pod's cgroup, so that Cleanup finds it there. Seccomp is not built in
// (scripts/build-crio.sh), and nothing of the host's own configuration of containers is read.
const crioTemplate = `[crio]
root = "{{.Root}}"
runroot = "{{.State}}"
storage_driver = "overlay"
log_dir = "{{.Root}}/logs"
version_file = "{{.State}}/version"
version_file_persist = "{{.Root}}/version"
clean_shutdown_file = "{{.Root}}/clean.shutdown"
internal_wipe = false

[crio.api]
listen = "{{.Socket}}"
stream_address = "127.0.0.1"
stream_port = "0"

[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "runc"
pinns_path = "{{.Pinns}}"
container_exits_dir = "{{.State}}/exits"
container_attach_socket_dir = "{{.State}}/attach"
namespaces_dir = "{{.State}}/ns"
hooks_dir = []
apparmor_profile = "unconfined"

[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
runtime_type = "oci"
runtime_root = "{{.RuncRoot}}"
monitor_path = "/usr/bin/conmon"

[crio.image]
signature_policy = "{{.Home}}/policy.json"
pause_image = "{{.SandboxImage}}"

[crio.network]
network_dir = "{{.CNIConf}}"
plugin_dirs = ["{{.CNIBin}}"]

[crio.nri]
enable_nri = false
`

// useCRIO makes the layout one of CRI-O. Its image library looks for certificates and mirrors below its home.
func (l *layout) useCRIO(dir, binary string) {
	l.config, l.Pinns, l.Home = crioTemplate, filepath.Join(filepath.Dir(binary), "pinns"), filepath.Join(dir, "home")
	l.CertsDir = filepath.Join(l.Home, ".config/containers/certs.d")
	l.args = []string{"--config", l.ConfigFile, "--config-dir", filepath.Join(l.Home, "crio.conf.d")}
}

// writeHome writes what CRI-O's image library looks for.
func (l *layout) writeHome() error {
	if l.Home == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(l.Home, "crio.conf.d"), 0o711); err != nil {
		return fmt.Errorf("make CRI-O's home: %w", err)
	}
	for path, text := range map[string]string{filepath.Join(l.Home, "policy.json"): `{"default":[{"type":"insecureAcceptAnything"}]}`, l.registries(): ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write CRI-O's configuration: %w", err)
		}
	}
	return nil
}

// AllowHTTP lets the runtime speak to a registry on loopback without TLS. containerd does so by itself; CRI-O reads its list of
// registries again.
func (r *Runtime) AllowHTTP(registry string) error {
	if r.layout.Home == "" {
		return nil
	}
	f, err := os.OpenFile(r.layout.registries(), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("tell CRI-O of a registry: %w", err)
	}
	_, err = fmt.Fprintf(f, "[[registry]]\nlocation = %q\ninsecure = true\n", registry)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("tell CRI-O of a registry: %w", err)
	}
	if r.running() {
		return r.process.Signal(syscall.SIGHUP)
	}
	return nil
}

func (l *layout) registries() string {
	return filepath.Join(l.Home, ".config/containers/registries.conf")
}
