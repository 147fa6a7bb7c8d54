package devices

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// many applies n devices with ids of their own, 1-second cycles and one desired value.
func (w *world) many(n int, uid string) {
	for i := range n {
		id := fmt.Sprintf("x%d", i)
		w.fake.Set(id, "t", device.Float32(float32(i)))
		w.fake.Set(id, "s", device.Int(1))
		doc := deviceDoc("1", strings.Replace(tempProp, "100", "1000", 1), strings.Replace(setProp("5"), "100", "1000", 1))
		w.apply(wire.KindDevice, "d-"+id, strings.NewReplacer(`"name": "d"`, `"name": "d-`+id+`"`, `"id": "1"`, `"id": "`+id+`"`, `"u1"`, `"`+uid+id+`"`).Replace(doc))
	}
}

func (w *world) none(n int) {
	for i := range n {
		w.apply(wire.KindDevice, fmt.Sprintf("d-x%d", i), "")
	}
}

// TestCyclesAreSpread: 1,000 devices with the same cycle that start together do not ask together, now or later.
func TestCyclesAreSpread(t *testing.T) {
	simulate(t, func(w *world) {
		w.many(1000, "u")
		w.start()
		defer w.stop()
		most := func(d time.Duration) int {
			out, last := 0, w.fake.Reads()
			for range d / (10 * time.Millisecond) {
				w.settle(10 * time.Millisecond)
				now := w.fake.Reads()
				out, last = max(out, now-last), now
			}
			return out
		}
		if n := most(3 * time.Second); n > 60 {
			t.Errorf("%d of 1,000 devices are read in the same 10 ms after the start", n)
		}
		begin := w.fake.Reads()
		if n := most(10 * time.Second); n > 40 {
			t.Errorf("%d of 1,000 devices are read in the same 10 ms", n)
		}
		if got := w.fake.Reads() - begin; got < 9_900 || got > 10_100 {
			t.Errorf("%d readings of 1,000 devices in 10 cycles", got)
		}
	})
}

// TestManyDevicesComeAndGo: 2,000 devices leave nothing behind when they are deleted, and have nothing of before when they come again. Idle
// devices have no goroutine.
func TestManyDevicesComeAndGo(t *testing.T) {
	simulate(t, func(w *world) {
		w.start()
		before := runtime.NumGoroutine()
		for round := range 2 {
			w.many(2000, fmt.Sprintf("r%d-", round))
			w.settle(25 * time.Second)
			if got := len(w.host.Status()); got != 2000 || w.fake.Live() != 2000 {
				t.Fatalf("%d devices, %d sessions", got, w.fake.Live())
			}
			if got := runtime.NumGoroutine() - before; got > 10 {
				t.Errorf("%d goroutines for 2,000 idle devices", got)
			}
			if got := w.fake.Writes("x7"); len(got) != round+1 {
				t.Errorf("writes %v in round %d", got, round)
			}
			w.mu.Lock()
			if len(w.records) != 4000 {
				t.Errorf("%d records, want 4,000", len(w.records))
			}
			w.mu.Unlock()
			w.none(2000)
			w.settle(15 * time.Second)
			w.host.sched.mu.Lock()
			queue, tasks := len(w.host.sched.queue), len(w.host.sched.byTask)
			w.host.sched.mu.Unlock()
			w.mu.Lock()
			if len(w.records) != 0 || len(w.host.workers) != 0 || queue != 0 || tasks != 0 || w.fake.Live() != 0 || w.host.calls.Load() != 0 {
				t.Errorf("left: %d records, %d workers, %d+%d scheduled, %d sessions, %d calls",
					len(w.records), len(w.host.workers), queue, tasks, w.fake.Live(), w.host.calls.Load())
			}
			clear(w.reports)
			w.mu.Unlock()
		}
		if got := runtime.NumGoroutine() - before; got > 0 {
			t.Errorf("%d goroutines are left", got)
		}
		w.stop()
	})
}

// TestFlashBudget: values that all change all the time reach the store within the budget, each in its turn; when the host stops, all are
// there.
func TestFlashBudget(t *testing.T) {
	simulate(t, func(w *world) {
		w.many(500, "u")
		w.start()
		w.settle(10 * time.Second)
		w.mu.Lock()
		w.lazy = 0
		w.mu.Unlock()
		for round := range 20 {
			for i := range 500 {
				w.fake.Set(fmt.Sprintf("x%d", i), "t", device.Float32(float32(1000*round+i)))
			}
			w.settle(time.Second)
		}
		w.mu.Lock()
		if w.lazy > 20*flushPerSecond+flushPerSecond || w.lazy < 15*flushPerSecond {
			t.Errorf("%d records in 20 s, the budget is %d a second", w.lazy, flushPerSecond)
		}
		w.mu.Unlock()
		w.stop()
		w.fake = nil
		stale := 0
		for i := range 500 {
			var rec twinRecord
			if _, err := rec.UnmarshalMsg(w.records[fmt.Sprintf("ns/d-x%d/temp", i)]); err != nil || rec.Text != fmt.Sprint(19_000+i) {
				stale++
			}
		}
		if stale > 0 {
			t.Errorf("%d records are old after the host has stopped", stale)
		}
	})
}
