//go:build integration

package serial

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/rig/serialpeer"
	"github.com/skerry/skerry/mappers/all"
	"github.com/skerry/skerry/mappers/device"
)

// gateway is what a device host needs of an agent.
type gateway struct {
	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	changed chan struct{}
	host    *devices.Host
}

func (g *gateway) Get(k wire.Key) (wire.Object, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o, ok := g.objects[k]
	return o, ok
}

func (g *gateway) List(kind wire.Kind) (out []wire.Object) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, o := range g.objects {
		if k.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

// Take says that anything may have changed.
func (g *gateway) Take() []wire.Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.objects))
}

func (g *gateway) C() <-chan struct{}                                 { return g.changed }
func (g *gateway) Report(wire.Key, []byte)                            {}
func (g *gateway) Withdraw(wire.Key)                                  {}
func (g *gateway) Event(wire.ObjectRef, string, string, string)       {}
func (g *gateway) Scan(string, func(string, []byte) error) error      { return nil }
func (g *gateway) Commit(context.Context, []devices.TwinRecord) error { return nil }
func (g *gateway) CommitLazy([]devices.TwinRecord) error              { return nil }

// startGateway runs the agent's device host with all drivers.
func startGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{objects: map[wire.Key]wire.Object{}, changed: make(chan struct{}, 1)}
	g.host = must[*devices.Host](t)(devices.New(devices.Options{Drivers: all.Drivers(all.Options{}), Desired: g, Watch: g, Reports: g, Events: g, Twins: g}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.host.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
	})
	return g
}

// apply takes a manifest's documents over.
func (g *gateway) apply(t *testing.T, manifest string) {
	t.Helper()
	for _, text := range strings.Split(manifest, "\n---\n") {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		kind := wire.KindDevice
		if doc["kind"] == "DeviceModel" {
			kind = wire.KindDeviceModel
		}
		meta := doc["metadata"].(map[string]any)
		meta["uid"], meta["generation"] = "u1", 1
		body := must[[]byte](t)(msgp.AppendIntf(nil, doc))
		sum := sha256.Sum256(body)
		key := wire.NewKey(kind, "default", meta["name"].(string), "")
		g.mu.Lock()
		g.objects[key] = wire.Object{Key: key, Version: wire.Version{Hash: [16]byte(sum[:16])}, Body: body}
		g.mu.Unlock()
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// values are a device's good ones by name, with their outcome if something is desired of them, and a text that shows everything.
func (g *gateway) values(name string) (map[string]string, string) {
	for _, d := range g.host.Status() {
		if d.Name != name {
			continue
		}
		out := map[string]string{}
		for _, p := range d.Properties {
			if p.Quality == device.Good {
				out[p.Name] = strings.TrimSpace(p.Value + " " + p.Outcome)
			}
		}
		return out, fmt.Sprintf("%+v", d)
	}
	return nil, "no such device"
}

// TestManualsExamplesOnTheHost runs the three devices of docs/serial.md, as they stand there, on the agent's device host: only their ports
// are replaced, and what a pseudo-terminal and Python's CRC lack.
func TestManualsExamplesOnTheHost(t *testing.T) {
	manual := string(must[[]byte](t)(os.ReadFile("../../docs/serial.md")))
	var examples []string
	for _, m := range regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```").FindAllStringSubmatch(manual, -1) {
		examples = append(examples, m[1])
	}
	if len(examples) != 3 {
		t.Fatalf("%d examples in the manual", len(examples))
	}
	on := func(example, port string) string {
		out := regexp.MustCompile(`serialPort: [^\s,}]+`).ReplaceAllString(example, "serialPort: "+port)
		return strings.NewReplacer("rs485: kernel", "rs485: auto", "CRC-16/MODBUS", "CRC-16/XMODEM", "checksumOrder: little", "checksumOrder: big").Replace(out)
	}
	scaleLine, meterLine := startLine(t), startLine(t)
	scale := startDevice(t, scaleLine, "scale")
	startDevice(t, meterLine, "meter")
	gps, err := serialpeer.StartGPS(t.Context(), tempDir(t), receiverLog())
	t.Cleanup(func() { check(t, gps.Stop()) })
	if err != nil {
		t.Fatal(err)
	}
	g := startGateway(t)
	for i, port := range []string{scaleLine.Port, gps.NMEA, meterLine.Port} {
		g.apply(t, on(examples[i], port))
	}
	eventually(t, "the meter's values", 15*time.Second, func() (bool, string) {
		v, saw := g.values("meter-7")
		return v["voltage"] == "230.1" && v["energy"] == "305419896" && v["alarm"] == "true" && v["limit"] == "16 verified", saw
	})
	eventually(t, "the scale's values", 15*time.Second, func() (bool, string) {
		v, saw := g.values("scale-1")
		return v["weight"] != "" && v["stable"] == "true", saw
	})
	eventually(t, "the receiver's values", 15*time.Second, func() (bool, string) {
		v, saw := g.values("gps-1")
		return v["latitude"] == "48.117303333" && v["longitude"] == "-11.523868333" && v["satellites"] == "8" && v["speed"] == "18.52", saw
	})
	// One device without power: the others go on.
	check(t, scale.Kill())
	eventually(t, "the scale is offline", 15*time.Second, func() (bool, string) {
		v, saw := g.values("scale-1")
		return v["weight"] == "" && strings.Contains(saw, "offline") && strings.Contains(saw, "did not answer within"), saw
	})
	if v, saw := g.values("meter-7"); v["voltage"] != "230.1" {
		t.Errorf("the meter beside it: %s", saw)
	}
}
