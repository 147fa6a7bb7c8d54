package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/proxy"
	"github.com/skerry/skerry/firmware/userids"
)

// Bytes is an amount of memory. In YAML: a number of bytes, or one with the suffix Ki, Mi, Gi (or KiB, MiB, GiB).
type Bytes int64

var units = []struct {
	suffix string
	size   Bytes
}{{"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}}

// UnmarshalYAML reads 67108864, 64Mi or 64MiB.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	text := strings.TrimSuffix(n.Value, "B")
	unit := Bytes(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = rest, u.size
			break
		}
	}
	v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || v < 0 || v > int64((1<<62)/unit) {
		return fmt.Errorf("line %d: %q is not an amount of memory: allowed are bytes or a number with Ki, Mi or Gi, as 64Mi", n.Line, n.Value)
	}
	*b = Bytes(v) * unit
	return nil
}

// MarshalYAML writes the largest unit that loses nothing.
func (b Bytes) MarshalYAML() (any, error) { return b.String(), nil }

func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Kubernetes takes a DNS subdomain (RFC 1123) as a node's name.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// Only sysctls of the network, IPC and user namespaces are a pod's own (namespaces(7)).
var sysctl = regexp.MustCompile(`^(kernel\.(shm|msg)[a-z0-9_]*|kernel\.sem|fs\.mqueue\.[a-z0-9_]*|user\.[a-z0-9_]*|net\.[-a-zA-Z0-9_./]*)\*?$`)

func nodeNameOf(host string) string {
	return strings.ToLower(strings.ReplaceAll(host, "_", "-"))
}

func (c Config) check() error {
	var wrong []error
	bad := func(key string, value any, allowed string) {
		wrong = append(wrong, fmt.Errorf("%s: %q is wrong: %s", key, fmt.Sprint(value), allowed))
	}
	if len(c.Node.Name) > 253 || !nodeName.MatchString(c.Node.Name) {
		bad("node.name", c.Node.Name, "allowed are lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253")
	}
	if len(c.Relay.Addresses) == 0 {
		wrong = append(wrong, errors.New("relay.addresses: is empty: at least one relay as HOST:PORT is needed"))
	}
	for i, a := range c.Relay.Addresses {
		if err := hostPort(a, false); err != nil {
			bad(fmt.Sprintf("relay.addresses[%d]", i), a, err.Error())
		}
	}
	if c.Relay.Proxy != "" {
		if _, err := proxy.Parse(c.Relay.Proxy); err != nil {
			wrong = append(wrong, fmt.Errorf("relay.proxy: %w", err)) // without the value, which may hold a password
		}
	}
	between := func(key string, d, least, most time.Duration) {
		if d < least || d > most {
			bad(key, d, fmt.Sprintf("allowed are %v to %v, as 15s or 1m30s", least, most))
		}
	}
	c.Node.check(bad, between)
	between("relay.heartbeat", c.Relay.Heartbeat, time.Second, 10*time.Minute)
	between("relay.maxBackoff", c.Relay.MaxBackoff, time.Second, time.Hour)
	between("store.window", c.Store.Window, 10*time.Millisecond, time.Minute)
	for _, p := range []struct{ key, path string }{
		{"dataDir", c.DataDir}, {"identityDir", c.IdentityDir}, {"pods.rootDir", c.Pods.RootDir}, {"pods.logDir", c.Pods.LogDir}, {"socket", c.Socket},
		{"pods.staticDir", c.Pods.StaticDir}, {"control.socket", c.Control.Socket},
	} {
		if !filepath.IsAbs(p.path) && !((p.key == "socket" || p.key == "pods.staticDir") && p.path == "") {
			bad(p.key, p.path, "an absolute path is needed")
		}
	}
	for _, p := range []struct{ key, path string }{{"socket", c.Socket}, {"control.socket", c.Control.Socket}} {
		if len(p.path) > maxSocketPath {
			bad(p.key, p.path, fmt.Sprintf("the kernel takes paths of Unix sockets up to %d bytes", maxSocketPath))
		}
	}
	if d := c.Board.Dir; d != "" && !filepath.IsAbs(d) {
		bad("board.dir", d, "an absolute path is needed, as /etc/skerry/board.d; empty: only the boards that are built in")
	}
	if c.Control.Socket == c.Socket {
		bad("control.socket", c.Control.Socket, "it must be another one than socket")
	}
	if path, ok := strings.CutPrefix(c.Runtime.Endpoint, "unix://"); !ok || !filepath.IsAbs(path) {
		bad("runtime.endpoint", c.Runtime.Endpoint, "allowed is unix:// with an absolute path, as unix:///run/containerd/containerd.sock")
	}
	if !filepath.IsAbs(c.Runtime.CgroupParent) {
		bad("runtime.cgroupParent", c.Runtime.CgroupParent, "an absolute cgroup path is needed, as /skerry")
	}
	if d := c.Runtime.LostAfter; d != 0 && d < 10*time.Second {
		bad("runtime.lostAfter", d, "allowed are 10s and more, longer than the network of a pod takes to be made, or 0: nothing is removed")
	}
	if c.Pods.Max < 1 || c.Pods.Max > 1000 {
		bad("pods.max", c.Pods.Max, "allowed are 1 to 1000")
	}
	if d := c.Pods.ClusterDomain; d == "" || len(d) > 200 || strings.ContainsAny(d, " /:\t\n") || strings.HasPrefix(d, ".") || strings.HasSuffix(d, ".") {
		bad("pods.clusterDomain", d, "a DNS name without dots at its ends is needed, as cluster.local")
	}
	c.Pods.checkNetwork(bad)
	between("pods.maxRestartDelay", c.Pods.MaxRestartDelay, time.Second, 5*time.Minute)
	if s := c.Pods.Logs.MaxSize; s < 16<<10 || s > 1<<30 {
		bad("pods.logs.maxSize", s, "allowed are 16Ki to 1Gi")
	}
	if n := c.Pods.Logs.MaxFiles; n < 1 || n > 20 {
		bad("pods.logs.maxFiles", n, "allowed are 1 to 20")
	}
	if n := c.Pods.Pids; n != 0 && (n < 16 || n > 4<<20) {
		bad("pods.pidsLimit", n, "allowed are 0 (no limit) and 16 to 4194304 processes and threads for each pod")
	}
	for i, name := range c.Pods.Sysctls {
		if !sysctl.MatchString(name) {
			bad(fmt.Sprintf("pods.allowedUnsafeSysctls[%d]", i), name, "allowed are sysctls of the pod's own namespaces, as kernel.msgmax, or kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.*, user.*, net.*")
		}
	}
	if u := userids.Range(c.Pods.Users); u != (userids.Range{}) {
		if err := u.Check(); err != nil {
			bad("pods.userNamespaces", fmt.Sprintf("%d ids from %d on", u.Count, u.First), err.Error())
		}
	}
	if n := c.Pods.Images.Parallel; n < 0 || n > 16 {
		bad("pods.images.parallelPulls", n, "allowed are 0 (as many as the board's budget allows) and 1 (one after the other) to 16")
	}
	if d := c.Pods.Images.StallTimeout; d < 5*time.Second || d > time.Hour {
		bad("pods.images.stallTimeout", d, "allowed are 5s to 1h")
	}
	if v := c.Pods.Images.Verification; !slices.Contains([]string{pods.CheckPulled, pods.CheckNone, pods.CheckAll}, v) {
		bad("pods.images.credentialVerification", v, fmt.Sprintf("allowed are %s (a pod that wants an image which was pulled with another pod's credentials needs its own), %s and %s", pods.CheckPulled, pods.CheckNone, pods.CheckAll))
	}
	for i, ref := range c.Pods.Images.PrePull {
		if ref == "" || strings.ContainsAny(ref, " \t\n") {
			bad(fmt.Sprintf("pods.images.prePull[%d]", i), ref, "the name of an image is needed, as registry.example.org/app:1.4")
		}
	}
	if h := c.Pods.Images.High; h < 10 || h > 100 {
		bad("pods.images.highThreshold", h, "allowed are 10 to 100 percent; 100 removes images only from a disk that is full")
	}
	if l := c.Pods.Images.Low; l < 1 || l >= c.Pods.Images.High {
		bad("pods.images.lowThreshold", l, "allowed are 1 percent to less than pods.images.highThreshold")
	}
	c.Devices.History.check(bad)
	c.Devices.Push.check(bad)
	c.checkDMI(bad, between)
	c.MQTT.check(bad, between)
	c.Update.check(bad, between)
	c.Watchdog.check(bad)
	if l := c.Memory.Limit; l.Bytes != 0 && l.Bytes < 24<<20 {
		bad("memory.limit", l, "allowed are board, 0 (no limit) and 24Mi or more; with less the agent would only collect garbage")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format", c.Log.Format, "allowed are text and json")
	}
	if c.Metrics.Address != "" {
		if err := hostPort(c.Metrics.Address, true); err != nil {
			bad("metrics.address", c.Metrics.Address, err.Error())
		}
	}
	return errors.Join(wrong...)
}

const maxSocketPath = 107 // sun_path of unix(7), less the closing zero

func hostPort(s string, hostMayBeEmpty bool) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("allowed is HOST:PORT, as relay.example.org:7443, 192.0.2.7:7443 or [2001:db8::7]:7443")
	}
	if host == "" && !hostMayBeEmpty {
		return errors.New("the host is missing")
	}
	if strings.Contains(host, "/") {
		return errors.New("HOST:PORT is needed, not a URL")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q: allowed are 1 to 65535", port)
	}
	return nil
}
