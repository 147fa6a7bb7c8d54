package devices

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// recordedProp is a property whose history is kept.
func recordedProp(prop string) string {
	return strings.Replace(prop, `"cell"`, `"history": true, "cell"`, 1)
}

// keep starts the host with device d, whose history goes to m, and forgets what the first readings have brought.
func (w *world) keep(m *memory, properties ...string) {
	w.history = m
	w.apply(wire.KindDevice, "d", deviceDoc("1", properties...))
	w.start()
	w.settle(time.Second)
	m.take()
}

// worker is that of device d.
func (w *world) worker(t *testing.T) *worker {
	t.Helper()
	wk, err := w.host.worker("ns", "d")
	if err != nil {
		t.Fatal(err)
	}
	return wk
}

// TestTheHistoryGetsEveryValue: values that come faster than the worker looks reach the twin as the newest one, and the history one by one in their order, beside points
// that nobody keeps.
func TestTheHistoryGetsEveryValue(t *testing.T) {
	tellingWorld(t, func(w *world) {
		m := &memory{}
		w.keep(m, recordedProp(tempProp), setProp(""), recordedProp(onProp))
		defer w.stop()
		var temps, ons []string
		reports := w.count()
		for i := range 300 {
			w.fake.Set("1", "t", device.Float32(float32(i)+0.5))
			temps = append(temps, fmt.Sprintf("ns/d/temp=%v", float32(i)+0.5))
			w.fake.Set("1", "s", device.Int(int64(i)))
			if i%3 == 0 {
				w.fake.Set("1", "o", device.Bool(i%2 == 0))
				ons = append(ons, fmt.Sprintf("ns/d/on=%v", i%2 == 0))
			}
		}
		w.settle(time.Second)
		for what, want := range map[string][]string{"ns/d/temp=": temps, "ns/d/on=": ons} {
			got := slices.DeleteFunc(m.all(), func(v string) bool { return !strings.HasPrefix(v, what) })
			if !slices.Equal(got, want) {
				t.Errorf("%s: %d values, %d were told: %q", what, len(got), len(want), got)
			}
		}
		if m.missed != 0 || len(m.all()) != len(temps)+len(ons) {
			t.Errorf("%d values, %d missed", len(m.all()), m.missed)
		}
		if temp, set := w.twin("temp").Reported.Value, w.twin("set").Reported.Value; temp != "299.5" || set != "299" || w.count()-reports > 20 {
			t.Errorf("the twins show %s and %s after %d reports", temp, set, w.count()-reports)
		}
		w.noBurst()
	})
}

// TestABurstIsBounded: beyond the bounds values are conflated as those of other points are, and counted; the order stays, and the newest one wins.
func TestABurstIsBounded(t *testing.T) {
	tellingWorld(t, func(w *world) {
		m := &memory{}
		w.keep(m, recordedProp(tempProp), setProp(""))
		defer w.stop()
		const told = 3 * maxBurst
		wk := w.worker(t)
		wk.mu.Lock() // the worker looks at nothing
		for i := range told {
			w.fake.Set("1", "t", device.Float32(float32(i)))
		}
		wk.mu.Unlock()
		w.settle(time.Second)
		got := m.all()
		if len(got)+int(m.missed) != told || len(got) != maxBurst+1 {
			t.Errorf("%d values and %d missed, %d were told", len(got), m.missed, told)
		}
		if got[0] != "ns/d/temp=0" || got[len(got)-1] != fmt.Sprintf("ns/d/temp=%v", device.Float32(told-1).Text()) || w.twin("temp").Reported.Value != device.Float32(told-1).Text() {
			t.Errorf("from %s to %s; the twin shows %s", got[0], got[len(got)-1], w.twin("temp").Reported.Value)
		}
		w.noBurst()
	})
}

// TestTheGapIsWhereValuesAreMissing: it stands in front of the newest value of each point, and behind all older ones.
func TestTheGapIsWhereValuesAreMissing(t *testing.T) {
	tellingWorld(t, func(w *world) {
		m := &memory{gaps: true}
		w.keep(m, recordedProp(tempProp), setProp(""), recordedProp(onProp))
		defer w.stop()
		wk := w.worker(t)
		wk.mu.Lock() // the worker looks at nothing
		w.fake.Set("1", "o", device.Bool(true))
		for i := range maxBurst + 2 {
			w.fake.Set("1", "t", device.Float32(float32(i)))
		}
		wk.mu.Unlock()
		w.settle(time.Second)
		got := m.all()
		newest := slices.Clone(got[max(len(got)-2, 0):])
		slices.Sort(newest)
		if len(got) != maxBurst+3 || got[maxBurst] != "1 missed" || !slices.Equal(newest, []string{"ns/d/on=true", fmt.Sprintf("ns/d/temp=%v", maxBurst+1)}) {
			t.Errorf("%d entries, the last %q", len(got), got[max(len(got)-4, 0):])
		}
		w.noBurst()
	})
}

// TestValuesBeforeTheEnd: what a subscription brought before it ended is kept, also if a new plan or the worker's end ends it; what was queued for a session that
// was given up is counted.
func TestValuesBeforeTheEnd(t *testing.T) {
	tellingWorld(t, func(w *world) {
		m := &memory{}
		w.keep(m, recordedProp(tempProp), setProp(""))
		defer w.stop()
		for i := range 10 {
			w.fake.Set("1", "t", device.Float32(float32(i)))
		}
		w.fake.EndSubscriptions(fmt.Errorf("the server is gone"))
		w.settle(time.Minute)
		if got := m.all(); len(got) < 10 || got[9] != "ns/d/temp=9" || m.missed != 0 {
			t.Errorf("%q, %d missed", got, m.missed)
		}
		m.take()
		wk := w.worker(t)
		wk.mu.Lock() // the worker looks at nothing
		for i := range 10 {
			w.fake.Set("1", "t", device.Float32(float32(100+i)))
		}
		wk.unsubscribe()
		wk.mu.Unlock()
		w.settle(time.Minute)
		if got := m.all(); m.missed != 10 || !slices.Contains(got, "ns/d/temp=109") {
			t.Errorf("%q, %d missed", got, m.missed)
		}
		w.noBurst()
		m.take()
		quietly := func(v float32) { // the worker does not learn of it
			b := wk.sub.inbox
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.queue == nil {
				b.queue = w.host.buffers.takeTold()
			}
			b.put(0, device.Float32(v))
		}
		wk.mu.Lock()
		for i := range 3 {
			quietly(float32(200 + i))
		}
		next := *wk.plan
		next.properties = slices.Clone(next.properties)
		next.properties[0].collect *= 2 // the driver is asked anew
		wk.adopt(&next, time.Now())
		wk.mu.Unlock()
		w.settle(time.Minute)
		if got := m.all(); m.missed != 10 || len(got) < 3 || !slices.Equal(got[:3], []string{"ns/d/temp=200", "ns/d/temp=201", "ns/d/temp=202"}) {
			t.Errorf("before a new plan: %q, %d missed", got, m.missed)
		}
		m.take()
		wk.mu.Lock()
		for i := range 3 {
			quietly(float32(300 + i))
		}
		wk.mu.Unlock()
		wk.halt()
		<-wk.done
		if got := m.all(); m.missed != 10 || !slices.Equal(got, []string{"ns/d/temp=300", "ns/d/temp=301", "ns/d/temp=302"}) {
			t.Errorf("before the end: %q, %d missed", got, m.missed)
		}
		w.noBurst()
	})
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.values)
}

func (m *memory) take() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = nil
}

// noBurst wants all reserved room to be free.
func (w *world) noBurst() {
	w.t.Helper()
	if n := w.host.burst.Load(); n != 0 {
		w.t.Errorf("room for %d values is reserved", n)
	}
}
