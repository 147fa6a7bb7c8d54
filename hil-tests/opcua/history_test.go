//go:build integration

package opcua

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
)

// TestHistoryGetsWhatTheServerQueued: every change that the server queued, while the connection was away and in a burst while it was there, is in the gateway's history, in order and
// with the server's time; the twin shows the newest. Of a point without history only the newest counts.
func TestHistoryGetsWhatTheServerQueued(t *testing.T) {
	p := start(t, opcuapeer.Options{Many: 10})
	for _, c := range []struct {
		name        string
		break_, fix func(*proxy)
	}{
		{"cut", (*proxy).cut, (*proxy).mend},
		{"swallowed", (*proxy).swallow, (*proxy).heal},
		{"burst", func(*proxy) {}, func(*proxy) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			way := newProxy(t, p.Addr())
			h := openHistory(t)
			g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{newDriver(t, p)}, History: h})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := g.Stop(); err != nil {
					t.Error(err)
				}
			})
			// Interval 0: the server notes each change when it happens, and leaves none out.
			visitor := func(node string, kept bool) map[string]any {
				return map[string]any{"nodeID": "nsu=" + opcuapeer.Namespace + ";s=" + node, "samplingInterval": 0, "queueSize": 500, "history": kept}
			}
			properties := []devicehost.Property{
				{Name: "kept", Type: "DOUBLE", Collect: 200, Visitor: visitor("E0", true)}, {Name: "newest", Type: "DOUBLE", Collect: 200, Visitor: visitor("E1", false)},
			}
			url := map[string]any{"url": way.url(), "timeout": 2000, "watchdog": 1000, "publishingInterval": 200}
			set := func(v int) {
				t.Helper()
				for _, node := range []string{"E0", "E1"} {
					if err := p.Set(t.Context(), node, float64(v)); err != nil {
						t.Fatal(err)
					}
				}
			}
			shown := func(v int) func() bool {
				return func() bool {
					d, _ := g.State("plc")
					for _, prop := range d.Properties {
						if prop.Quality != device.Good || prop.Value != device.Int(int64(v)).Text() {
							return false
						}
					}
					return d.Watched == 2
				}
			}
			set(1)
			if err := g.Apply(devicehost.Model("plc", "opcua", properties), devicehost.Device("plc", "plc", "opcua", url, properties)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the first values have come by subscription", 30*time.Second, shown(1))
			const sets = 200
			want := []float64{1}
			c.break_(way)
			for v := range sets {
				set(100 + v)
				want = append(want, float64(100+v))
			}
			if c.name != "burst" {
				eventually(t, "the gateway notices", 30*time.Second, func() bool { d, _ := g.State("plc"); return d.State != "online" || d.Watched == 0 })
			}
			c.fix(way)
			eventually(t, "the twin shows the newest values", 60*time.Second, shown(100+sets-1))
			got, source := values(t, h, "kept")
			if !slices.Equal(got, want) {
				t.Errorf("the history has %d values, %d were set: %v", len(got), len(want), got)
			}
			if !slices.IsSortedFunc(source, time.Time.Compare) {
				t.Errorf("the server's times are not in order: %v", source)
			}
			if none, _ := values(t, h, "newest"); len(none) != 0 {
				t.Errorf("a property without history has %v", none)
			}
			if s := h.Device(devicehost.Namespace, "plc"); s.DroppedFull != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func openHistory(t *testing.T) *history.History {
	t.Helper()
	sealer, err := store.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	h, err := history.Open(history.Options{Dir: filepath.Join(t.TempDir(), "history"), Sealer: sealer, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// values returns the good values of a property that the history has, without those that say again what the one before said, and when the server had them.
func values(t *testing.T, h *history.History, property string) (out []float64, source []time.Time) {
	t.Helper()
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	list, err := h.Range(devicehost.Namespace, "plc", property, time.Time{}, time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if v := e.Value.AsFloat(); e.Value.Quality == device.Good && (len(out) == 0 || out[len(out)-1] != v) {
			out, source = append(out, v), append(source, e.Value.Source)
		}
	}
	return out, source
}
