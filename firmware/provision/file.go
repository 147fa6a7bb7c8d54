package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/wire/join"
)

// FileName is what the technician's file is called, in the root of a FAT.
const FileName = "skerry-provision.yaml"

// ResultName is where the gateway says what became of it.
const ResultName = "skerry-result.txt"

const (
	maxFile       = 64 << 10
	maxInterfaces = 16
	maxAddresses  = 16
)

// File is a provisioning file (docs/flashing.md).
type File struct {
	Token       string         `yaml:"token"`
	Relays      []string       `yaml:"relays"`
	Node        string         `yaml:"node"`
	Proxy       string         `yaml:"proxy"`
	Hostname    string         `yaml:"hostname"`
	TimeServers []string       `yaml:"timeServers"`
	Network     []Network      `yaml:"network"`
	Settings    map[string]any `yaml:"config"`
}

// Network is how one interface gets its addresses, if not by DHCP.
type Network struct {
	Interface string   `yaml:"interface"`
	Addresses []string `yaml:"addresses"` // with prefix length
	Gateway   string   `yaml:"gateway"`
	DNS       []string `yaml:"dns"`
}

// ErrUsed says that the file's token has been used and erased.
var ErrUsed = errors.New("the token of this file has been used and erased")

var (
	hostName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	ifaceName = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9_.]{0,14}$`)
	server    = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9.:]{0,251}[A-Za-z0-9])?$`)
)

// Parse reads and checks a provisioning file. It returns ErrUsed for one whose token is erased.
func Parse(text []byte) (File, error) {
	var f File
	if len(text) > maxFile {
		return f, fmt.Errorf("the file is larger than %d bytes", maxFile)
	}
	// Editors of Windows put a byte order mark in front.
	dec := yaml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		if errors.Is(err, io.EOF) {
			return f, errors.New("the file is empty")
		}
		return f, fmt.Errorf("it cannot be read as YAML, or has a key that does not exist (allowed are token, relays, node, proxy, hostname, timeServers, network, config): %w", err)
	}
	f.Token = strings.TrimSpace(f.Token)
	if f.Token != "" && strings.Trim(f.Token, "#") == "" {
		return f, ErrUsed
	}
	token, err := join.ParseToken(f.Token)
	if err != nil {
		return f, fmt.Errorf("token: %w: make one with `skerryctl token create --node NAME` and copy it whole", err)
	}
	if f.Node == "" {
		f.Node = token.Node
	}
	if f.Node != token.Node {
		return f, fmt.Errorf("the token is for node %q, and the file says node: %q", token.Node, f.Node)
	}
	if f.Hostname == "" {
		f.Hostname, _, _ = strings.Cut(f.Node, ".")
	}
	return f, f.check()
}

func (f *File) check() error {
	var wrong []error
	bad := func(key, value, allowed string) {
		wrong = append(wrong, fmt.Errorf("%s: %.100q is wrong: %s", key, value, allowed))
	}
	if len(f.Relays) == 0 {
		bad("relays", "", "HOST:PORT of at least one relay is needed, as [\"relay.example.org:7443\"]")
	}
	if !hostName.MatchString(f.Hostname) {
		bad("hostname", f.Hostname, "lower-case letters, digits and '-' are allowed, at most 63")
	}
	for i, s := range f.TimeServers {
		if !server.MatchString(s) {
			bad(fmt.Sprintf("timeServers[%d]", i), s, "a host name or an address is needed")
		}
	}
	if len(f.Network) > maxInterfaces {
		bad("network", fmt.Sprint(len(f.Network)), fmt.Sprintf("at most %d interfaces are allowed", maxInterfaces))
		f.Network = nil
	}
	seen := map[string]bool{}
	for i, n := range f.Network {
		key := fmt.Sprintf("network[%d].", i)
		if !ifaceName.MatchString(n.Interface) || seen[n.Interface] {
			bad(key+"interface", n.Interface, "the name of an interface is needed, as eth0, each once")
		}
		seen[n.Interface] = true
		if len(n.Addresses) == 0 || len(n.Addresses) > maxAddresses || len(n.DNS) > maxAddresses {
			bad(key+"addresses", fmt.Sprint(n.Addresses), "at least one address is needed, as 10.0.0.5/24; leave the interface out for DHCP")
		}
		for _, a := range n.Addresses {
			if p, err := netip.ParsePrefix(a); err != nil || p.Addr().Zone() != "" {
				bad(key+"addresses", a, "an address with its prefix length is needed, as 10.0.0.5/24")
			}
		}
		for _, a := range n.DNS {
			if ip, err := netip.ParseAddr(a); err != nil || ip.Zone() != "" {
				bad(key+"dns", a, "an address is needed, as 10.0.0.1")
			}
		}
		if ip, err := netip.ParseAddr(n.Gateway); n.Gateway != "" && (err != nil || ip.Zone() != "") {
			bad(key+"gateway", n.Gateway, "an address is needed, as 10.0.0.1")
		}
	}
	if len(wrong) == 0 {
		if _, _, err := f.Config(); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// Config returns the skerryd.yaml that follows from the file.
func (f *File) Config() ([]byte, config.Config, error) {
	all := map[string]any{}
	for k, v := range f.Settings {
		all[k] = v
	}
	section := func(name string) (map[string]any, error) {
		m, ok := all[name].(map[string]any)
		if !ok && all[name] != nil {
			return nil, fmt.Errorf("config.%s has to have keys below it", name)
		}
		out := map[string]any{}
		for k, v := range m {
			out[k] = v
		}
		all[name] = out
		return out, nil
	}
	node, err := section("node")
	if err != nil {
		return nil, config.Config{}, err
	}
	relay, err := section("relay")
	if err != nil {
		return nil, config.Config{}, err
	}
	node["name"], relay["addresses"] = f.Node, f.Relays
	if f.Proxy != "" {
		relay["proxy"] = f.Proxy
	}
	body, err := yaml.Marshal(all)
	if err != nil {
		return nil, config.Config{}, err
	}
	text := append([]byte("# Written from "+FileName+" when this gateway was provisioned; docs/configuration.md explains the keys.\n"), body...)
	cfg, err := config.Parse(text)
	if err != nil {
		return nil, config.Config{}, fmt.Errorf("relays, proxy or config: %w", err)
	}
	return text, cfg, nil
}

// networkFiles are what systemd-networkd and timesyncd are told, by path below /etc.
func (f *File) networkFiles() map[string]string {
	out := map[string]string{}
	for _, n := range f.Network {
		var b strings.Builder
		fmt.Fprintf(&b, "# From %s.\n[Match]\nName=%s\n\n[Network]\nDHCP=no\n", FileName, n.Interface)
		for _, a := range n.Addresses {
			fmt.Fprintf(&b, "Address=%s\n", a)
		}
		if n.Gateway != "" {
			fmt.Fprintf(&b, "Gateway=%s\n", n.Gateway)
		}
		for _, d := range n.DNS {
			fmt.Fprintf(&b, "DNS=%s\n", d)
		}
		out["systemd/network/50-"+n.Interface+".network"] = b.String()
	}
	if len(f.TimeServers) > 0 {
		out["systemd/timesyncd.conf.d/provisioned.conf"] = "[Time]\nNTP=" + strings.Join(f.TimeServers, " ") + "\n"
	}
	return out
}

// erase returns the text with the token's letters overwritten wherever it stands, in comments, too, byte for byte as long. ok is false if the token is
// not in it as one word.
func erase(text []byte, token string) (erased []byte, ok bool) {
	if token == "" {
		return nil, false
	}
	erased = bytes.Clone(text)
	for from := 0; ; {
		i := bytes.Index(text[from:], []byte(token))
		if i < 0 {
			return erased, ok
		}
		ok = true
		i += from
		from = i + len(token)
		for j := i; j < from; j++ {
			erased[j] = '#'
		}
		// A # that begins a plain word would begin a comment: the file would then have no token, which is no sign of its use.
		if i == 0 || erased[i-1] != '"' && erased[i-1] != '\'' {
			erased[i], erased[from-1] = '"', '"'
		}
	}
}
