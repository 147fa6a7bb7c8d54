package devices

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// slowReads is a driver whose readings are on their way for a time, while writes are quick.
type slowReads struct {
	*devicetest.Fake
	way time.Duration
}

func (d *slowReads) Protocols() []string { return []string{"slow"} }

func (d *slowReads) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	s, err := d.Fake.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &slowSession{Session: s, way: d.way}, nil
}

type slowSession struct {
	device.Session
	way time.Duration
}

func (s *slowSession) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	err := s.Session.Read(ctx, points, values)
	time.Sleep(s.way)
	return err
}

// TestAnOlderReadingDoesNotReplaceAReadBack: a poll that is under way while a value is written and verified brings what was there before.
func TestAnOlderReadingDoesNotReplaceAReadBack(t *testing.T) {
	simulate(t, func(w *world) {
		w.drivers = []device.Driver{&slowReads{Fake: w.fake, way: 250 * time.Millisecond}}
		doc := func(generation, desired string) string {
			return strings.Replace(deviceDoc(generation, tempProp, setProp(desired)), `"protocolName": "fake"`, `"protocolName": "slow"`, 1)
		}
		w.apply(wire.KindDevice, "d", doc("1", "42"))
		w.start()
		defer w.settle(time.Second) // the last reading, which nobody waits for any more
		defer w.stop()
		w.settle(2 * time.Second)
		if tw := w.twin("set"); tw.Reported.Value != "42" || tw.ObservedDesired.Metadata.Outcome != "verified" {
			t.Fatalf("before: %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		n := w.count()
		w.apply(wire.KindDevice, "d", doc("2", "43"))
		w.settle(10 * time.Millisecond) // a reading is under way all the time
		if tw := w.twin("set"); tw.Reported.Value != "43" || tw.ObservedDesired.Metadata.Outcome != "verified" {
			t.Fatalf("after the write: %+v %+v", tw.Reported, tw.ObservedDesired)
		}
		w.fake.Set("1", "t", device.Float32(22)) // so that there are reports
		w.settle(2 * time.Second)
		w.mu.Lock()
		verified := false
		for _, r := range w.reports[devKey][n:] {
			for _, tw := range r.DeviceStatus.Twins {
				if tw.PropertyName != "set" {
					continue
				}
				verified = verified || tw.Reported.Value == "43"
				if verified && tw.Reported.Value != "43" {
					t.Errorf("reported %s after 43 had been read back", tw.Reported.Value)
				}
			}
		}
		w.mu.Unlock()
		// What the device does afterwards is seen.
		w.fake.Set("1", "s", device.Int(7))
		w.settle(time.Second)
		if w.twin("temp").Reported.Value != "22" || w.twin("set").Reported.Value != "7" {
			t.Errorf("later: %+v %+v", w.twin("temp").Reported, w.twin("set").Reported)
		}
	})
}
