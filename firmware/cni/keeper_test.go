package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// gateway is a made-up runtime, store and set of interfaces around a Keeper.
type gateway struct {
	t   *testing.T
	dir string
	o   Options
	end func() // of the Keeper that runs

	mu       sync.Mutex
	node     string // spec of the node as JSON; "": not told yet
	silent   bool   // the runtime does not answer
	discreet bool   // it does not say where it looks for configurations
	networks []Network
	warnings []string
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{t: t, dir: t.TempDir(), end: func() {}}
	g.o = Options{
		Node: "gw-1", Desired: g, Runtime: g, Masquerade: true, Log: slog.New(slog.DiscardHandler),
		Networks: func() ([]Network, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.networks, nil
		},
		Warn: func(m string) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.warnings = append(g.warnings, m)
		},
	}
	for _, p := range plugins {
		g.file("bin/"+p, "#!/bin/sh", 0o755)
	}
	return g
}

func (g *gateway) file(name, text string, mode os.FileMode) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) remove(name string) {
	g.t.Helper()
	if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) Status(context.Context, bool) (*cri.StatusResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent {
		return nil, cri.ErrUnavailable
	}
	if g.discreet {
		return &cri.StatusResponse{}, nil
	}
	return &cri.StatusResponse{Info: map[string]string{"config": `{"cni":{"confDir":"` + g.dir + `/net.d","binDir":"` + g.dir + `/bin"}}`}}, nil
}

func (g *gateway) Get(key wire.Key) (wire.Object, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if key != "nodes//gw-1" || g.node == "" {
		return wire.Object{}, false
	}
	body, err := canon.FromJSON([]byte(`{"metadata":{"name":"gw-1"},"spec":` + g.node + `}`))
	if err != nil {
		g.t.Fatal(err)
	}
	return wire.Object{Key: key, Body: body}, true
}

// set changes the gateway while the Keeper runs.
func (g *gateway) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gateway) spec(s string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.node = s
}

// run starts a Keeper, after ending the one before, as a restart of the agent does. The last one ends with the test.
func (g *gateway) run() *Keeper {
	g.end()
	k := New(g.o)
	k.usual = filepath.Join(g.dir, "net.d")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	g.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			g.t.Errorf("Run: %v", err)
		}
	})
	g.t.Cleanup(g.end)
	synctest.Wait()
	return k
}

// ranges returns the addresses in our file, "" if there is none.
func (g *gateway) ranges() string {
	b, err := os.ReadFile(filepath.Join(g.dir, "net.d", FileName))
	if err != nil {
		return ""
	}
	return list(rangesOf(b))
}

func (g *gateway) expect(what, ranges string, k *Keeper, problem ...string) {
	g.t.Helper()
	synctest.Wait()
	if got := g.ranges(); got != ranges {
		g.t.Errorf("%s: addresses %q, want %q", what, got, ranges)
	}
	got := k.Problem()
	if len(problem) == 0 && got != "" {
		g.t.Errorf("%s: problem %q", what, got)
	}
	for _, p := range problem {
		if !strings.Contains(got, p) {
			g.t.Errorf("%s: problem %q does not say %q", what, got, p)
		}
	}
}

func bubble(t *testing.T, f func(t *testing.T, g *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newGateway(t)) })
}

func TestDefault(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		k := g.run()
		g.expect("at first", "", k, "waiting up to 10s", "spec.podCIDR")
		time.Sleep(10 * time.Second)
		g.expect("nobody gives addresses", "10.254.0.0/22", k)
	})
}

// TestRuntimeThatDoesNotSayWhereItLooks: it may have a network from another folder, and says so itself; what is wrong with the usual folder makes no
// node unready.
func TestRuntimeThatDoesNotSayWhereItLooks(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.discreet = true
		g.networks = []Network{{"cni0", netip.MustParsePrefix("10.7.0.0/24")}} // of that other network
		g.spec(`{"podCIDR":"10.7.0.0/24"}`)
		k := g.run()
		time.Sleep(time.Minute)
		g.expect("the node's range is taken", "", k)
		if len(g.warnings) != 1 || !strings.Contains(k.Status(), "the container runtime's own, BUT ") || !strings.Contains(k.Status(), "cni0") {
			t.Errorf("status %q, warnings %q", k.Status(), g.warnings)
		}
		g.set(func() { g.discreet = false })
		time.Sleep(askAgain)
		g.expect("it says where it looks", "", k, "cni0")
	})
}

func TestDefaultIsNotANetworkOfTheGateway(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		g.networks = []Network{{"eth0", netip.MustParsePrefix("10.0.0.0/8")}, {"wwan0", netip.MustParsePrefix("172.30.253.4/30")}}
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("the plant has 10.0.0.0/8", "192.168.252.0/22", k)
		g.end()
		g.networks = nil
		k = g.run()
		g.expect("after a restart", "192.168.252.0/22", k)
	})
}

func TestNoDefaultIsFree(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		for _, d := range defaults {
			g.networks = append(g.networks, Network{"eth0", d})
		}
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("all are taken", "", k, "pods.network.cidrs")
	})
}

func TestTheClustersAddresses(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.o.Ranges = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
		changed := make(chan struct{})
		g.o.Changed = changed
		k := g.run()
		g.expect("at first", "", k, "waiting")
		g.spec(`{"podCIDR":"10.244.3.0/24"}`)
		changed <- struct{}{}
		g.expect("the cluster's go before the configured", "10.244.3.0/24", k)
		g.spec(`{"podCIDR":"10.244.4.0/24","podCIDRs":["10.244.4.0/24","fd00:4::/64"]}`)
		changed <- struct{}{}
		g.expect("others", "10.244.4.0/24, fd00:4::/64", k)
		g.spec(`{}`)
		time.Sleep(time.Minute)
		g.expect("a node that is registered anew", "10.9.0.0/16", k)

		g.mu.Lock()
		g.networks = []Network{{"eth0", netip.MustParsePrefix("10.244.0.0/16")}}
		g.mu.Unlock()
		g.spec(`{"podCIDR":"10.244.3.0/24"}`)
		changed <- struct{}{}
		g.expect("those of the plant's network", "10.9.0.0/16", k)
		if got := k.Status(); !strings.HasPrefix(got, "skerryd's own, 10.9.0.0/16, BUT the pods' addresses 10.244.3.0/24") {
			t.Errorf("status %q", got)
		}
		if len(g.warnings) != 1 || !strings.Contains(g.warnings[0], "10.244.3.0/24") || !strings.Contains(g.warnings[0], "interface eth0") || !strings.Contains(g.warnings[0], "spec.podCIDR") {
			t.Errorf("warnings %q", g.warnings)
		}
		g.spec(`{"podCIDR":"everything"}`)
		changed <- struct{}{}
		g.expect("nonsense", "10.9.0.0/16", k)
	})
}

func TestConfiguredAddressesOfThePlant(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		g.o.Ranges = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
		g.networks = []Network{{"eth0", netip.MustParsePrefix("10.9.8.0/24")}}
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("no network", "", k, "10.9.0.0/16", "pods.network.cidrs", "10.9.8.0/24", "eth0")
	})
}

func TestAnotherCNI(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.file("net.d/99-loopback.conf", `{"type":"loopback"}`, 0o600)
		g.file("net.d/10-flannel.conflist.tmp", `{"type":"flannel"}`, 0o600)
		g.file("net.d/87-empty.conflist", `{"name":"x","plugins":[]}`, 0o600)
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("files that make no network", "10.254.0.0/22", k)

		g.file("net.d/zz-flannel.conflist", `{"name":"cbr0","plugins":[{"type":"flannel"}]}`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("another CNI has come", "", k)
		if got := k.Status(); got != "of another CNI, by "+filepath.Join(g.dir, "net.d", "zz-flannel.conflist") {
			t.Errorf("status %q", got)
		}
		g.remove("net.d/zz-flannel.conflist")
		time.Sleep(time.Hour)
		g.expect("it has gone", "", k, "another CNI", "Restart skerryd")
		k = g.run()
		time.Sleep(10 * time.Second)
		g.expect("after a restart", "10.254.0.0/22", k)

		g.file("net.d/50-broken.conf", `{"type"`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("one that nobody can read", "", k, "50-broken.conf", "not valid JSON")
		if b, err := os.ReadFile(filepath.Join(g.dir, "net.d/50-broken.conf")); err != nil || string(b) != `{"type"` {
			t.Errorf("a foreign file was touched: %q, %v", b, err)
		}
	})
}

func TestDisabled(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("enabled", "10.254.0.0/22", k)
		g.end()
		g.o.Disabled = true
		k = g.run()
		g.expect("disabled", "", k, "pods.network.enabled", "DaemonSet")
		g.file("net.d/10-flannel.conflist", `{"name":"cbr0","plugins":[{"type":"flannel"}]}`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("the CNI has come", "", k)
	})
}

func TestRuntime(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.silent = true
		g.remove("bin/portmap")
		k := g.run()
		time.Sleep(time.Minute)
		if _, err := os.Stat(filepath.Join(g.dir, "net.d")); !os.IsNotExist(err) {
			t.Errorf("something was written while nobody knew where: %v", err)
		}
		g.mu.Lock()
		g.silent = false
		g.mu.Unlock()
		time.Sleep(time.Second)
		g.expect("a plugin is missing", "10.254.0.0/22", k, "portmap", g.dir+"/bin", "containernetworking-plugins")
		g.file("bin/portmap", "#!/bin/sh", 0o755)
		time.Sleep(5 * time.Second)
		g.expect("it is there", "10.254.0.0/22", k)
	})
}

func TestFile(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.o.MTU = 1400
		g.spec(`{"podCIDRs":["10.1.0.0/24","fd00::/64"]}`)
		k := g.run()
		g.expect("both families", "10.1.0.0/24, fd00::/64", k)
		path := filepath.Join(g.dir, "net.d", FileName)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var c conflist
		if err := json.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		p := c.Plugins[0]
		if c.Name != "skerry" || p.Type != "ptp" || p.MTU != 1400 || !p.Masquerade || len(p.IPAM.Routes) != 2 || p.IPAM.Routes[1].Dst != "::/0" || !c.Plugins[1].Capabilities["portMappings"] {
			t.Errorf("%s", b)
		}
		g.file("net.d/"+FileName, "{", 0o600)
		time.Sleep(5 * time.Second)
		g.expect("damaged", "10.1.0.0/24, fd00::/64", k)
		if left, _ := filepath.Glob(filepath.Join(g.dir, "net.d", ".*")); len(left) > 0 {
			t.Errorf("temporary files stay: %v", left)
		}
	})
}

// TestFolders: what runtimes say of themselves; containerd 1.6 and 2 as recorded, in part, and CRI-O, which says nothing.
func TestFolders(t *testing.T) {
	for config, want := range map[string]string{
		`{"containerd":{"snapshotter":"overlayfs"},"cni":{"binDir":"/opt/cni/bin","confDir":"/etc/cni/net.d","maxConfNum":1,"confTemplate":"","ipPref":""}}`: "/etc/cni/net.d [/opt/cni/bin]",
		`{"cni":{"binDirs":["/opt/cni/bin","/usr/lib/cni"],"confDir":"/x","maxConfNum":1,"setupSerially":false,"useInternalLoopback":false}}`:                "/x [/opt/cni/bin /usr/lib/cni]",
		"": " []",
	} {
		dir, bins := folders(config)
		if got := fmt.Sprint(dir, " ", bins); got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

// TestDiskFull: a change that cannot be written takes no network away.
func TestDiskFull(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		g.spec(`{"podCIDR":"10.1.0.0/24"}`)
		k := g.run()
		g.expect("at first", "10.1.0.0/24", k)
		g.file("net.d/"+FileName+durable.Suffix+"/x", "", 0o600) // the temporary file cannot be made
		g.spec(`{"podCIDR":"10.2.0.0/24"}`)
		time.Sleep(5 * time.Second)
		g.expect("no room", "10.1.0.0/24", k)
		if got := k.Status(); !strings.HasPrefix(got, "skerryd's own, 10.1.0.0/24, BUT write the CNI configuration") {
			t.Errorf("status %q", got)
		}
	})
}

func TestParseRanges(t *testing.T) {
	for _, tc := range []struct {
		texts []string
		pods  int
		wrong string
	}{
		{[]string{"10.0.0.0/24", "fd00::/64"}, 253, ""},
		{nil, 50, ""},
		{[]string{"10.0.0.0/24"}, 254, "room for 253 pods"},
		{[]string{"10.0.0.0/31"}, 1, "room for 0 pods"},
		{[]string{"0.0.0.0/0"}, 1000, ""},
		{[]string{"10.0.0.1/24"}, 1, "10.0.0.0/24 is meant"},
		{[]string{"10.0.0.0"}, 1, "range of addresses"},
		{[]string{"fd00::/64", "fd01::/64"}, 1, "one of IPv6"},
	} {
		_, err := ParseRanges(tc.texts, tc.pods)
		if (tc.wrong == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("%v for %d pods: %v, want %q", tc.texts, tc.pods, err, tc.wrong)
		}
	}
}

// FuzzConfiguration: what other software leaves in the folder must not harm.
func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"name":"skerry","plugins":[{"type":"ptp","ipam":{"ranges":[[{"subnet":"10.0.0.0/24"}]]}}]}`))
	f.Add([]byte(`{"cni":{"confDir":"/x","binDirs":["/y"]}}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range rangesOf(b) {
			if r != r.Masked() {
				t.Errorf("%v", r)
			}
		}
		_, _ = kindsIn("x", b)
		_, _ = folders(string(b))
	})
}

// TestLoopbackBeforeOurs: runtimes take the first file by its name, also one that makes no network; somebody has to move it.
func TestLoopbackBeforeOurs(t *testing.T) {
	for name, warned := range map[string]bool{"99-loopback.conf": true, "200-loopback.conflist": true, "99-loopback.conf.off": false, "99-z-loopback.conf": false} {
		bubble(t, func(t *testing.T, g *gateway) {
			g.file("net.d/"+name, `{"type":"loopback"}`, 0o600)
			k := g.run()
			time.Sleep(15 * time.Second)
			g.expect(name, "10.254.0.0/22", k) // pods on the host's network need none: the node stays ready
			if got := strings.Contains(k.Status(), filepath.Join(g.dir, "net.d", name)+" makes no network"); got != warned {
				t.Errorf("%s: status %q", name, k.Status())
			}
		})
	}
}

// TestNetworkComesLater: a gateway that was started without its cable takes a range that its network may turn out to have.
func TestNetworkComesLater(t *testing.T) {
	bubble(t, func(_ *testing.T, g *gateway) {
		k := g.run()
		time.Sleep(15 * time.Second)
		g.expect("no cable", "10.254.0.0/22", k)
		connect := func(networks ...Network) {
			g.mu.Lock()
			g.networks = networks
			g.mu.Unlock()
			time.Sleep(10 * time.Second)
		}
		eth0 := Network{"eth0", netip.MustParsePrefix("10.254.0.0/16")}
		connect(eth0)
		g.expect("eth0 is up", "172.30.252.0/22", k)
		connect()
		g.expect("eth0 is down", "172.30.252.0/22", k)
		connect(eth0, Network{"eth1", netip.MustParsePrefix("172.16.0.0/12")}, Network{"wlan0", netip.MustParsePrefix("192.168.0.0/16")})
		g.expect("nothing is left", "172.30.252.0/22", k)
	})
}
