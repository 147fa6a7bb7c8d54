//go:build integration

package opcua

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/devicectl"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua"
)

// gateway is the real device host with its control socket, whose driver trusts nobody yet.
type gateway struct {
	*devicehost.Gateway
	socket string
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	drivers := []device.Driver{opcua.New(opcua.Options{StateDir: t.TempDir()})}
	host, err := devicehost.Start(devicehost.Options{Drivers: drivers})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{Gateway: host, socket: filepath.Join(t.TempDir(), "c.sock")}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- control.New(control.Options{Socket: g.socket, Devices: host.Host(), Explorer: host.Host(), Drivers: drivers}).Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := host.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// run is `skerryctl device ARGS…`.
func (g *gateway) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := devicectl.Run(t.Context(), args, devicectl.Env{Stdout: &out, Stderr: &out, Socket: g.socket, Node: "gw-1"})
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String(), err
}

// says runs a command until it prints all of want.
func (g *gateway) says(t *testing.T, args []string, want ...string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := g.run(t, args...)
		missing := ""
		for _, w := range want {
			if !strings.Contains(out, w) {
				missing = w
			}
		}
		if missing == "" {
			return out
		}
		if time.Now().After(end) {
			t.Fatalf("skerryctl device %s (%v) does not say %q:\n%s", strings.Join(args, " "), err, missing, out)
		}
	}
}

// TestCommands is a commissioning against node-opcua by command: the server is a stranger and gets trusted, it is browsed, and a method of it
// is called.
func TestCommands(t *testing.T) {
	p := start(t, opcuapeer.Options{Many: 10})
	g := startGateway(t)
	node := func(name string) string { return "nsu=" + opcuapeer.Namespace + ";s=" + name }
	props := []devicehost.Property{
		{Name: "level", Type: "DOUBLE", Writable: true, Visitor: map[string]any{"nodeID": node("N1")}},
		{Name: "multiply", Type: "STRING", Writable: true, Visitor: map[string]any{"nodeID": node("Machine"), "methodID": node("Multiply")}},
	}
	cfg := map[string]any{"url": p.URL(), "securityPolicy": "Basic256Sha256", "timeout": int64(5000)}
	if err := g.Apply(devicehost.Model("mixer", "opcua", props), devicehost.Device("mixer-1", "mixer", "opcua", cfg, props)); err != nil {
		t.Fatal(err)
	}
	refused := g.says(t, []string{"read", "mixer-1"}, "BadCertificateUntrusted", "skerryctl device trust accept ")
	g.says(t, []string{"trust", "list"}, "rejected")
	fingerprint := regexp.MustCompile(`trust accept ([0-9a-f]+)`).FindStringSubmatch(refused)[1] // as the reason says
	g.says(t, []string{"trust", "accept", fingerprint}, "trusted")
	g.says(t, []string{"read", "mixer-1", "level"}, "good")

	if err := p.Set(t.Context(), "N1", 12.5); err != nil {
		t.Fatal(err)
	}
	g.says(t, []string{"read", "mixer-1", "level"}, "12.5", "good")
	g.says(t, []string{"write", "mixer-1", "level=13.5"}, "verified")
	if h, err := p.Get(t.Context(), "N1"); err != nil || fmt.Sprint(h.Value) != "13.5" {
		t.Errorf("the server holds %v (%v)", h.Value, err)
	}

	g.says(t, []string{"browse", "mixer-1", "--depth", "3"}, "Machine", "Multiply", "methodID", node("N1"), "DOUBLE, writable")
	g.says(t, []string{"browse", "mixer-1", node("Machine")}, "Multiply")
	g.says(t, []string{"browse", "mixer-1", "--model", "found"}, "kind: DeviceModel", "kind: Device", "nodeID", node("N1"))

	g.says(t, []string{"call", "mixer-1", "multiply", "0=6", "1=7"}, "42")
	if out, err := g.run(t, "call", "mixer-1", "multiply", "0=6"); err == nil || !strings.Contains(out, "2 arguments") {
		t.Errorf("a call with one argument: %v: %s", err, out)
	}
	g.says(t, []string{"trust", "reject", fingerprint}, "rejected")
}
