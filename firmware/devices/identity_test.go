package devices

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// TestDeviceMadeAnew: a Device that was deleted and made again arrives as one change of the same key. It has nothing of the old
// one, and what it was written once is not written again after a restart.
func TestDeviceMadeAnew(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("7", tempProp, onProp, setProp("5")))
		w.start()
		w.settle(3 * time.Second)
		anew := strings.Replace(deviceDoc("1", setProp("5")), `"uid": "u1"`, `"uid": "u2"`, 1)
		w.apply(wire.KindDevice, "d", anew)
		w.settle(3 * time.Second)
		want := []string{"s=5", "s=5"} // once for each of them
		for range 2 {
			if got := w.fake.Writes("1"); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Fatalf("writes %v", got)
			}
			if len(w.records) != 1 || w.records["ns/d/set"] == nil {
				t.Fatalf("records %v", w.records)
			}
			w.stop()
			w.start()
			w.settle(3 * time.Second)
		}
		w.stop()
	})
}

// TestUnreadableObjects: the view knows a device and its model and cannot read them at the moment.
func TestUnreadableObjects(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("5")))
		modelKey := wire.NewKey(wire.KindDeviceModel, "ns", "m", "")
		whole := map[wire.Key]wire.Object{devKey: w.objects[devKey], modelKey: w.objects[modelKey]}
		bare := func(keys ...wire.Key) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, k := range keys {
				o := w.objects[k]
				o.Body, o.Version.Hash[0] = nil, o.Version.Hash[0]+1
				w.objects[k] = o
				w.touch(k)
			}
		}
		w.start()
		w.settle(time.Second)
		bare(devKey, modelKey)
		w.settle(time.Minute)
		if w.condition("Ready").Status != "True" || w.condition("Valid").Status != "True" || len(w.gone) != 0 {
			t.Fatalf("what ran does not go on: %+v", w.last())
		}
		for _, unreadable := range [][]wire.Key{{devKey}, {modelKey}, {devKey, modelKey}} {
			w.stop()
			for k, o := range whole {
				w.objects[k] = o
			}
			clear(w.reports)
			w.events = nil
			bare(unreadable...)
			w.start()
			w.settle(time.Minute)
			if w.count() != 0 || len(w.events) != 0 {
				t.Fatalf("%v: judged without having been read: %+v %v", unreadable, w.reports, w.events)
			}
			w.mu.Lock()
			for k, o := range whole { // the disk works again, and nothing says so
				w.objects[k] = o
			}
			w.mu.Unlock()
			w.settle(2 * rereadAfter)
			if w.condition("Ready").Status != "True" {
				t.Fatalf("%v: not polled: %+v", unreadable, w.last())
			}
		}
		w.stop()
		if got := w.fake.Writes("1"); len(got) != 1 {
			t.Errorf("writes %v", got)
		}
	})
}
