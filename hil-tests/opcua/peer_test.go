//go:build integration

package opcua

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// start runs a server that lives as long as the test.
func start(t *testing.T, opt opcuapeer.Options) *opcuapeer.Peer {
	t.Helper()
	opt.Folder = t.TempDir()
	opt.Log = filepath.Join(opt.Folder, "log")
	p, err := opcuapeer.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Errorf("end the peer: %v", err)
		}
		if log, err := os.ReadFile(opt.Log); err == nil && t.Failed() {
			t.Logf("the server says: %s", log[max(0, len(log)-4000):])
		}
	})
	return p
}

// config is a device's, over what every test wants.
func config(url string, kv ...any) device.Config {
	data := devicetest.Data("url", url, "timeout", 5000, "watchdog", 1000)
	for k, v := range devicetest.Data(kv...) {
		data[k] = v
	}
	return device.Config{Device: "ns/plc", Protocol: data}
}

// point is a property whose node is in the peer's namespace.
func point(name string, typ device.Type, kv ...any) device.PointConfig {
	data := devicetest.Data("nodeID", "nsu="+opcuapeer.Namespace+";s="+name)
	for k, v := range devicetest.Data(kv...) {
		data[k] = v
	}
	return device.PointConfig{Property: name, Path: "visitors.configData", Type: typ, Writable: true, Visitor: data}
}

// newDriver returns a driver that trusts the peer.
func newDriver(t *testing.T, p *opcuapeer.Peer) *opcua.Driver {
	t.Helper()
	dir := t.TempDir()
	d := opcua.New(opcua.Options{StateDir: dir})
	if _, err := d.Certificates(); err != nil { // makes the folders
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "opcua", "pki", "trusted", "certs", "peer.der"), p.Certificate().DER, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// read reads points and fails the test if they cannot be asked.
func read(t *testing.T, s device.Session, points []device.Point) []device.Value {
	t.Helper()
	values := make([]device.Value, len(points))
	if err := s.Read(t.Context(), points, values); err != nil {
		t.Fatalf("read: %v", err)
	}
	return values
}

// eventually tries until it is true.
func eventually(t *testing.T, what string, within time.Duration, try func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !try(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// proxy is a path to the peer that can be cut and turned into a black hole.
type proxy struct {
	t *testing.T
	p *toxiproxy.Proxy
}

func newProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics have loggers of their own
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), t.Name(), "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &proxy{t: t, p: p}
}

func (p *proxy) url() string { return "opc.tcp://" + p.p.Listen }

// swallow makes a black hole: connections stay, and nothing comes through in either direction.
func (p *proxy) swallow() {
	p.t.Helper()
	for i, stream := range []string{"upstream", "downstream"} {
		doc := `{"name":"hole` + strconv.Itoa(i) + `","type":"timeout","stream":"` + stream + `","attributes":{"timeout":0}}`
		if _, err := p.p.Toxics.AddToxicJson(strings.NewReader(doc)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// heal undoes swallow. Toxiproxy cuts the connections that were swallowed.
func (p *proxy) heal() {
	p.p.Toxics.ResetToxics(p.t.Context())
}

// cut refuses connections until mend.
func (p *proxy) cut() { p.p.Stop() }

func (p *proxy) mend() {
	p.t.Helper()
	if err := p.p.Start(); err != nil {
		p.t.Fatal(err)
	}
}
