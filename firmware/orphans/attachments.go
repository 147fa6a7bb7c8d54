package orphans

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

const (
	hostLocalDir = "/var/lib/cni/networks" // where host-local notes addresses if its configuration does not say
	interfaceOf  = "eth0"                  // of a pod, if nobody says
	podArg       = "K8S_POD_UID"           // CNI argument that CRI runtimes give; podman gives a pod's name, but no UID
	configLimit  = 1 << 20                 // bytes of a CNI configuration
	noteLimit    = 4 << 10                 // bytes of a note of host-local
)

// sandboxID is what containerd calls sandboxes.
var sandboxID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// network is the one that the runtime gives to pods.
type network struct {
	confDir string
	binDirs []string
}

// attachment is a container's link to the network.
type attachment struct{ container, ifName string }

// list reads the network's configuration: the first file of the folder, as containerd does. Nil: there is none.
func (n network) list() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(n.confDir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(files) == 0 {
		return nil, err //nolint:wrapcheck // names the folder
	}
	slices.Sort(files)
	if info, err := os.Stat(files[0]); err != nil || info.Size() > configLimit {
		return nil, err //nolint:wrapcheck // names the file
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err //nolint:wrapcheck // names the file
	}
	if filepath.Ext(files[0]) != ".conflist" { // a plugin alone, as containerd still takes it
		var c struct {
			Version string `json:"cniVersion"`
			Name    string `json:"name"`
		}
		if err := json.Unmarshal(data, &c); err != nil {
			return nil, fmt.Errorf("read %s: %w", files[0], err)
		}
		if data, err = json.Marshal(map[string]any{"cniVersion": c.Version, "name": c.Name, "plugins": []json.RawMessage{data}}); err != nil {
			return nil, fmt.Errorf("read %s: %w", files[0], err)
		}
	}
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", files[0], err)
	}
	return list, nil
}

// attachmentsOf returns who has an address of host-local's, and who is in CNI's cache. Containers that somebody else than a CRI runtime has attached to
// the same network are in the cache without a pod's UID; they, and those that are alive, whoever's they are, are not returned. What is not in the cache at all was killed before
// its address was known.
func attachmentsOf(n network, cni *libcni.CNIConfig, inhabited func(namespace string) bool) ([]attachment, error) {
	list, err := n.list()
	if err != nil || list == nil {
		return nil, err
	}
	cached, err := cni.GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("read CNI's cache: %w", err)
	}
	var out []attachment
	others := map[string]bool{}
	for _, a := range cached {
		switch pod := slices.ContainsFunc(a.CniArgs, func(arg [2]string) bool { return arg[0] == podArg && arg[1] != "" }); {
		case !pod, a.NetNS != "" && inhabited(a.NetNS):
			others[a.ContainerID] = true
		case a.Network == list.Name && sandboxID.MatchString(a.ContainerID):
			out = append(out, attachment{a.ContainerID, a.IfName})
		}
	}
	for _, dir := range hostLocalDirs(list) {
		noted, err := notesOf(dir)
		if err != nil {
			return nil, err
		}
		for _, a := range noted {
			if !others[a.container] && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// hostLocalDirs returns where the network's host-local plugins note addresses.
func hostLocalDirs(list *libcni.NetworkConfigList) (dirs []string) {
	for _, p := range list.Plugins {
		var c struct {
			IPAM struct {
				Type    string `json:"type"`
				DataDir string `json:"dataDir"`
			} `json:"ipam"`
		}
		if json.Unmarshal(p.Bytes, &c) != nil || c.IPAM.Type != "host-local" {
			continue
		}
		if c.IPAM.DataDir == "" {
			c.IPAM.DataDir = hostLocalDir
		}
		dirs = append(dirs, filepath.Join(c.IPAM.DataDir, list.Name))
	}
	return dirs
}

// notesOf reads host-local's notes: files named by the address, with the container and its interface in a line each.
func notesOf(dir string) (out []attachment, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read host-local's notes: %w", err)
	}
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err != nil || !e.Type().IsRegular() {
			continue // its lock, and what it gave away last
		}
		a, err := noteOf(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if sandboxID.MatchString(a.container) {
			out = append(out, a)
		}
	}
	return out, nil
}

func noteOf(path string) (attachment, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return attachment{}, nil // given back a moment ago
	}
	if err != nil {
		return attachment{}, fmt.Errorf("read a note of host-local: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	a, lines := attachment{ifName: interfaceOf}, bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 256), noteLimit)
	if lines.Scan() {
		a.container = lines.Text()
	}
	if lines.Scan() && lines.Text() != "" {
		a.ifName = lines.Text()
	}
	return a, nil //nolint:nilerr // a line that is too long is no note of a sandbox
}

// detachFrom has the network's plugins give back what a container had.
func detachFrom(ctx context.Context, n network, cni *libcni.CNIConfig, a attachment) error {
	list, err := n.list()
	if err != nil || list == nil {
		return err
	}
	// Without a namespace: it is gone, or has no name. Plugins have to bear that (CNI specification 1.1, section 2, DEL).
	if err := cni.DelNetworkList(ctx, list, &libcni.RuntimeConf{ContainerID: a.container, IfName: a.ifName}); err != nil {
		return fmt.Errorf("give back the address of %s in network %s: %w", a.container, list.Name, err)
	}
	return nil
}
