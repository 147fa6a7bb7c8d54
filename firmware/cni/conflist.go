package cni

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

const (
	// FileName is the file that a Keeper owns. Runtimes take the first file by name, so that any other goes before it.
	FileName = "99-skerry.conflist"
	// NetworkName is the network's name: the plugins keep addresses and packet filter rules under it, so it never changes.
	NetworkName = "skerry"
	maxFile     = 1 << 20
)

// Plugins that the conflist runs; loopback is run by the runtime itself.
var plugins = []string{"ptp", "host-local", "portmap", "loopback"}

// conflist is a network configuration list (CNI specification 0.4.0, which all runtimes in the field read).
type conflist struct {
	Version string   `json:"cniVersion"`
	Name    string   `json:"name"`
	Plugins []plugin `json:"plugins"`
}

type plugin struct {
	Type         string          `json:"type"`
	MTU          int             `json:"mtu,omitempty"`
	Masquerade   bool            `json:"ipMasq,omitempty"`
	IPAM         *ipam           `json:"ipam,omitempty"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
}

type ipam struct {
	Type    string        `json:"type"`
	DataDir string        `json:"dataDir,omitempty"`
	Ranges  [][]addresses `json:"ranges"`
	Routes  []route       `json:"routes"`
}

type addresses struct {
	Subnet string `json:"subnet"`
}

type route struct {
	Dst string `json:"dst"`
}

// text is the content of our file for these ranges, one for each address family.
func text(ranges []netip.Prefix, o *Options) ([]byte, error) {
	a := &ipam{Type: "host-local", DataDir: o.DataDir}
	for _, r := range ranges {
		a.Ranges = append(a.Ranges, []addresses{{r.String()}})
		if r.Addr().Is4() {
			a.Routes = append(a.Routes, route{"0.0.0.0/0"})
		} else {
			a.Routes = append(a.Routes, route{"::/0"})
		}
	}
	b, err := json.MarshalIndent(conflist{Version: "0.4.0", Name: NetworkName, Plugins: []plugin{
		{Type: "ptp", MTU: o.MTU, Masquerade: o.Masquerade, IPAM: a},
		{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}},
	}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the CNI configuration: %w", err)
	}
	return append(b, '\n'), nil
}

// rangesOf reads the ranges back from our file; none if it is not one that we wrote.
func rangesOf(b []byte) []netip.Prefix {
	var c conflist
	if json.Unmarshal(b, &c) != nil || c.Name != NetworkName || len(c.Plugins) == 0 || c.Plugins[0].IPAM == nil {
		return nil
	}
	var out []netip.Prefix
	for _, set := range c.Plugins[0].IPAM.Ranges {
		for _, a := range set {
			p, err := netip.ParsePrefix(a.Subnet)
			if err != nil {
				return nil
			}
			out = append(out, p.Masked())
		}
	}
	return out
}

// foreign returns the name of the file that another CNI has in dir, the one that the runtime takes; "" if there is none. A file that
// cannot be read as configuration counts where runtimes read it before ours, and err says what is wrong with it; after ours, they do not reach it, and it is
// only a warning: whatever it is, taking our file away would take the network away for nothing. One that describes no network, or the loopback alone, does not count.
func foreign(dir string) (name string, warning, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return "", nil, nil
		}
		return "", nil, fmt.Errorf("look for CNI configurations in %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() == FileName || !isConfiguration(e) {
			continue
		}
		kinds, err := pluginsOf(filepath.Join(dir, e.Name()))
		if err != nil && e.Name() < FileName {
			return e.Name(), nil, err
		}
		if err != nil {
			warning = cmp.Or(warning, err)
			continue
		}
		if slices.ContainsFunc(kinds, func(kind string) bool { return kind != "loopback" }) {
			return e.Name(), nil, nil
		}
	}
	return "", warning, nil
}

// isConfiguration reports whether runtimes read a file of their folder.
func isConfiguration(e os.DirEntry) bool {
	return !e.IsDir() && slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name()))
}

// ahead returns the first file in dir that runtimes take before ours; "" if there is none. They do not ask whether it makes a network: with one that runs
// the loopback plugin alone, pods have that alone (containerd's go-cni, CRI-O's ocicni).
func ahead(dir string) string {
	entries, err := os.ReadDir(dir) // sorted by name, as runtimes do
	if err != nil {
		return "" // foreign has told
	}
	for _, e := range entries {
		if e.Name() >= FileName {
			break
		}
		if isConfiguration(e) {
			return e.Name()
		}
	}
	return ""
}

// pluginsOf returns the types of the plugins that a configuration runs.
func pluginsOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("look at the CNI configuration %s: %w", path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("the CNI configuration %s is not a file of at most %d bytes", path, maxFile)
	}
	b, err := os.ReadFile(path) //nolint:gosec // in the runtime's folder
	if err != nil {
		return nil, fmt.Errorf("read the CNI configuration: %w", err)
	}
	return kindsIn(path, b)
}

func kindsIn(path string, b []byte) ([]string, error) {
	var c struct {
		Type    string `json:"type"`
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("the CNI configuration %s is not valid JSON (%w): correct or remove it", path, err)
	}
	var kinds []string
	if c.Type != "" {
		kinds = append(kinds, c.Type)
	}
	for _, p := range c.Plugins {
		kinds = append(kinds, p.Type)
	}
	return kinds, nil
}

// missing returns which of our plugins are in none of the folders; nil if nobody knows the folders.
func missing(dirs []string) (names []string) {
	for _, name := range plugins {
		if !slices.ContainsFunc(dirs, func(dir string) bool {
			info, err := os.Stat(filepath.Join(dir, name))
			return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
		}) && len(dirs) > 0 {
			names = append(names, name)
		}
	}
	return names
}
