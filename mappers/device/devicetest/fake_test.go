package devicetest

import (
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

func TestFakeConforms(t *testing.T) {
	Run(t, func(t *testing.T) Subject {
		f := NewFake()
		f.Set("1", "a", device.Int(5))
		f.Set("1", "b", device.Float(1.5))
		f.Set("1", "w", device.Int(0))
		point := func(cell string) device.PointConfig {
			return device.PointConfig{Property: cell, Type: device.TypeInt, Visitor: map[string]any{"cell": cell}}
		}
		return Subject{
			Driver: f, Config: device.Config{Device: "ns/dev", Protocol: map[string]any{"id": "1"}},
			Read: []device.PointConfig{point("a"), point("b")}, Write: point("w"), Values: [2]device.Value{device.Int(7), device.Int(-8)},
			Traffic: func() (int, int) { return f.Opens("1"), len(f.Writes("1")) },
			Kill:    func() { f.SetFault(Off) }, Revive: func() { f.SetFault(None) },
			Hang: func() {
				f.SetFault(Hang)
				// The fake has no time-out of its own; a driver with one would give up after it.
				time.AfterFunc(200*time.Millisecond, func() { f.giveUp(t) })
			},
			BadConfigs:  []Bad{{Name: "no id", Data: nil, Field: "id"}, {Name: "unknown field", Data: map[string]any{"id": 1, "x": 2}, Field: "x"}},
			BadVisitors: []Bad{{Name: "no cell", Data: nil, Field: "cell"}},
			Recovery:    time.Second,
		}
	})
}

// giveUp turns a hang into what a driver's own time-out makes of it.
func (f *Fake) giveUp(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == Hang && t.Context().Err() == nil {
		f.fault = Off
	}
}
