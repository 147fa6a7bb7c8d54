package modbus

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// heard is what a scan told.
type heard struct {
	found    []string
	names    []string
	done     int
	total    int
	progress int
}

func (h *heard) scan(ctx context.Context, d *Driver, req device.ScanRequest) error {
	return d.Scan(ctx, req, func(done, total int, _ string) { h.done, h.total, h.progress = done, total, h.progress+1 }, func(r device.ScanResult) {
		h.found = append(h.found, fmt.Sprint(r.Protocol["slaveID"], " ", r.Protocol["baudRate"], " ", r.Protocol["parity"]))
		h.names = append(h.names, r.Name)
		if err := d.Check(device.Config{Protocol: r.Protocol}); err != nil {
			panic(err)
		}
	})
}

// TestScanFindsUnits: what answers is found, whatever it answers; a gateway's word that a unit is absent is no device.
func TestScanFindsUnits(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(3).SetHolding(0, 1)
	srv.Unit(7).SetCoil(0, true) // no holding registers: an exception
	protocol := configFor(srv, 1).Protocol
	protocol["timeout"] = 60
	var h heard
	if err := h.scan(t.Context(), New(), device.ScanRequest{Protocol: protocol, Units: [2]int{1, 10}}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"3 <nil> <nil>", "7 <nil> <nil>"}; !slices.Equal(h.found, want) || h.done != 10 || h.total != 10 {
		t.Errorf("found %q, %d of %d, want %q", h.found, h.done, h.total, want)
	}
}

// TestScanOfLine tries settings in turn and does so on a line that no device uses.
func TestScanOfLine(t *testing.T) {
	for _, f := range []modbustest.Framing{modbustest.RTU, modbustest.ASCII} {
		b := newBus(t, f)
		b.Unit(4).SetHolding(0, 9)
		c := b.config(1)
		delete(c.Protocol, "baudRate")
		c.Protocol["timeout"] = 60
		var h heard
		d := New()
		if err := h.scan(t.Context(), d, device.ScanRequest{Protocol: c.Protocol, Units: [2]int{3, 5}, Bauds: []int{9600, 115200}, Parities: []string{"none", "even"}}); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(h.found, "4 115200 even") || h.total != 12 || h.done != 12 {
			t.Errorf("%v: found %q of %d", f, h.found, h.total)
		}
		if len(d.scans) != 0 {
			t.Error("the line stays reserved")
		}
	}
}

// TestScanSearchesSettings: nothing is known of a line but its port. The first unit ids are asked with all settings before the others, so that the usual
// device is found within minutes, and the settings that found it are gone through before the rest.
func TestScanSearchesSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slaves := modbustest.New(t)
		slaves.Unit(3).SetHolding(0, 1)
		slaves.Unit(200).SetHolding(0, 1)
		var wg sync.WaitGroup
		d := NewWith(Options{Port: func(cfg serialline.Config) (serialline.Line, error) {
			near, far := linetest.Pair(cfg)
			wg.Go(func() {
				if cfg.Baud == 2400 && cfg.Parity.String() == "odd" { // the last of all settings
					slaves.Serve(far, modbustest.RTU)
				} else {
					_, _ = io.Copy(io.Discard, far) // until the line is closed
				}
			})
			return near, nil
		}})
		const settings, units = 7 * 3, 247
		asked, last := make(map[string]int), 0
		var found []string
		at := map[string]int{}
		err := d.Scan(t.Context(), device.ScanRequest{Protocol: map[string]any{"serialPort": "/dev/ttyMODEL"}}, func(done, total int, what string) {
			asked[what]++
			if last = done; total != settings*units {
				t.Fatalf("%d steps", total)
			}
		}, func(r device.ScanResult) {
			name := fmt.Sprint(r.Protocol["slaveID"], " ", r.Protocol["baudRate"], " ", r.Protocol["parity"])
			found, at[name] = append(found, name), last
		})
		wg.Wait()
		if err != nil || !slices.Equal(found, []string{"3 2400 odd", "200 2400 odd"}) {
			t.Fatalf("%v, found %q", err, found)
		}
		if first, second := at[found[0]], at[found[1]]; first != (settings-1)*scanFirst+2 || second != (settings-1)*scanFirst+199 {
			t.Errorf("found after %d and %d requests", first, second)
		}
		if last != settings*units || len(asked) != settings*units+1 {
			t.Errorf("%d of %d, %d different ones", last, settings*units, len(asked))
		}
		for what, n := range asked {
			if n != 1 {
				t.Errorf("%s was asked %d times", what, n)
			}
		}
	})
}

// TestScanSparesUsedLines: neither a serial line nor an address that a device has is scanned, and the message says whose it is.
func TestScanSparesUsedLines(t *testing.T) {
	b, srv := newBus(t, modbustest.RTU), modbustest.Start(t)
	b.Unit(1).SetHolding(0, 5)
	d := New()
	for _, cfg := range []device.Config{b.config(1), configFor(srv, 1)} {
		cfg.Device = "default/meter"
		s := devicetest.Open(t, d, cfg)
		var h heard
		err := h.scan(t.Context(), d, device.ScanRequest{Protocol: cfg.Protocol, Bauds: []int{1200}})
		if err == nil || !strings.Contains(err.Error(), "used by default/meter") || h.progress != 0 {
			t.Errorf("scanned a line in use: %v, %d steps", err, h.progress)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		cfg.Protocol["timeout"] = 50
		if err := h.scan(t.Context(), d, device.ScanRequest{Protocol: cfg.Protocol, Units: [2]int{1, 1}}); err != nil {
			t.Errorf("after the device is gone: %v", err)
		}
	}
}

// TestDeviceDuringScan: a device that appears while its line is scanned says so, and works afterwards.
func TestDeviceDuringScan(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	b.Unit(1).SetHolding(0, 5)
	d := New()
	s := devicetest.Open(t, d, b.config(1))
	points := devicetest.Compile(t, d, holding(0))
	c, err := parseConfig(b.config(1))
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.scans[c.place()] = true
	d.mu.Unlock()
	if _, err := read(t, s, points); err == nil || !strings.Contains(err.Error(), "being scanned") {
		t.Errorf("while scanned: %v", err)
	}
	d.unreserve(&c)
	waitFor(t, 10*time.Second, func() bool {
		v, err := read(t, s, points)
		return err == nil && v[0].Text() == "5"
	})
}

// TestScanEnds with its context, within one unit's time, and gives the line back.
func TestScanEnds(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	ctx, cancel := context.WithCancel(t.Context())
	d := New()
	steps := 0
	err := d.Scan(ctx, device.ScanRequest{Protocol: map[string]any{"serialPort": b.pty.Path, "timeout": 8000}}, func(_, total int, _ string) {
		if steps++; steps == 1 {
			if want := len(scanBauds) * len(scanParities) * 247; total != want {
				t.Errorf("%d steps, want %d", total, want)
			}
			time.AfterFunc(10*time.Millisecond, cancel)
		}
	}, nil)
	if err != nil || steps > 2 || len(d.scans) != 0 {
		t.Errorf("%v, %d steps, %v", err, steps, d.scans)
	}
}

// TestScanRefuses what cannot be scanned, before any I/O.
func TestScanRefuses(t *testing.T) {
	for name, protocol := range map[string]map[string]any{
		"nothing":        {},
		"a typing error": {"serialPort": "/dev/ttyS9", "badurate": 9600},
		"who dials in":   {"listen": ":5020"},
	} {
		if err := New().Scan(t.Context(), device.ScanRequest{Protocol: protocol}, nil, nil); len(device.FieldErrors(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := New().Scan(t.Context(), device.ScanRequest{Protocol: map[string]any{"serialPort": "/dev/skerry-none"}}, nil, nil); err == nil || !strings.Contains(err.Error(), "plugged in") {
		t.Errorf("a port that is not there: %v", err)
	}
}
