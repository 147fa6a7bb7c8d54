package devices

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// tellingWorld runs f with a driver that tells of changes.
func tellingWorld(t *testing.T, f func(w *world)) {
	simulate(t, func(w *world) {
		w.fake = devicetest.NewTelling()
		w.fake.Set("1", "t", device.Float32(21.5))
		w.fake.Set("1", "s", device.Int(1))
		w.fake.Set("1", "o", device.Bool(false))
		f(w)
	})
}

func TestSubscribesInsteadOfPolling(t *testing.T) {
	tellingWorld(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("")))
		w.start()
		defer w.stop()
		reads := w.fake.Reads()
		w.settle(time.Minute)
		if got := w.fake.Reads() - reads; got != 0 || w.fake.Subscriptions() != 1 || w.host.Status()[0].Watched != 2 {
			t.Errorf("%d reads in a minute, %d subscriptions, %d watched", got, w.fake.Subscriptions(), w.host.Status()[0].Watched)
		}
		w.fake.Set("1", "t", device.Float32(22))
		w.settle(time.Millisecond)
		if w.twin("temp").Reported.Value != "22" {
			t.Errorf("a change is not reported at once: %+v", w.twin("temp").Reported)
		}
		// Another desired value leaves the subscription alone; another point does not.
		w.apply(wire.KindDevice, "d", deviceDoc("2", tempProp, setProp("7")))
		w.settle(time.Second)
		if w.fake.Subscriptions() != 1 || w.fake.Reads() != reads || w.twin("set").Reported.Value != "7" || w.twin("set").ObservedDesired.Metadata.Outcome != "verified" {
			t.Errorf("after a desired value: %d subscriptions, %d reads, %+v", w.fake.Subscriptions(), w.fake.Reads()-reads, w.twin("set"))
		}
		w.apply(wire.KindDevice, "d", deviceDoc("3", tempProp, setProp("7"), onProp))
		w.settle(time.Second)
		if w.fake.Subscriptions() != 1 || w.host.Status()[0].Watched != 3 || w.fake.Opens("1") != 1 {
			t.Errorf("after a new property: %d subscriptions, %+v", w.fake.Subscriptions(), w.host.Status())
		}
	})
}

// TestSubscriptionKnowsTheCycle: a driver asks the device for changes as often as the property would be read.
func TestSubscriptionKnowsTheCycle(t *testing.T) {
	tellingWorld(t, func(w *world) {
		fast := strings.Replace(tempProp, "100", "50", 1)
		w.apply(wire.KindDevice, "d", deviceDoc("1", fast, setProp("")))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		if got := w.fake.Cycles(); got["t"] != 50*time.Millisecond || got["s"] != 100*time.Millisecond {
			t.Errorf("the driver was told the cycles %v", got)
		}
		w.apply(wire.KindDevice, "d", deviceDoc("2", strings.Replace(tempProp, `"collectCycle": 100, `, "", 1), setProp("")))
		w.settle(time.Second)
		if got := w.fake.Cycles(); got["t"] != defaultCollectCycle || w.fake.Opens("1") != 1 {
			t.Errorf("after another cycle the driver knows %v, and the session was opened %d times", got, w.fake.Opens("1"))
		}
	})
}

func TestPollsWhileASubscriptionIsDown(t *testing.T) {
	tellingWorld(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("")))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		w.fake.SetFault(devicetest.Off)
		w.fake.EndSubscriptions(errors.New("the server is gone"))
		w.settle(time.Second)
		if st := w.host.Status()[0]; st.State != "offline" || st.Watched != 0 {
			t.Errorf("while it is gone: %+v", st)
		}
		w.fake.SetFault(devicetest.None)
		w.fake.Set("1", "t", device.Float32(5))
		w.settle(2 * time.Minute)
		if st := w.host.Status()[0]; st.State != "online" || st.Watched != 2 || w.twin("temp").Reported.Value != "5" {
			t.Errorf("after it is back: %+v", st)
		}
		// A gap in one point: it is polled until a good value comes.
		reads := w.fake.Reads()
		w.fake.Gap("1", "t", "values were lost")
		w.settle(time.Second)
		if st := w.host.Status()[0]; w.fake.Reads() == reads || st.Watched != 1 || w.twin("temp").Reported.Metadata.Quality != "good" {
			t.Errorf("after a gap: %d reads, %+v", w.fake.Reads()-reads, st)
		}
		w.fake.Set("1", "t", device.Float32(6))
		w.settle(time.Second)
		reads = w.fake.Reads()
		w.settle(time.Second)
		if w.host.Status()[0].Watched != 2 || w.fake.Reads() != reads {
			t.Errorf("it is still polled")
		}
	})
}

func TestWhatCanOnlyBePolled(t *testing.T) {
	tellingWorld(t, func(w *world) {
		w.fake.OnlyPolled("t")
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("")))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		w.fake.Set("1", "t", device.Float32(9))
		w.settle(200 * time.Millisecond)
		if w.host.Status()[0].Watched != 1 || w.fake.Subscriptions() != 1 || w.twin("temp").Reported.Value != "9" {
			t.Errorf("%+v, %d subscriptions", w.host.Status()[0], w.fake.Subscriptions())
		}
	})
}

// TestAFloodConflates: a device that tells of 100,000 changes at once costs memory for one value, and the newest one wins.
func TestAFloodConflates(t *testing.T) {
	tellingWorld(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("")))
		w.start()
		defer w.stop()
		n := w.count()
		for i := range 100_000 {
			w.fake.Set("1", "s", device.Int(int64(i)))
			if i%10 == 9 {
				time.Sleep(time.Millisecond) // 10,000 a second
			}
		}
		w.settle(time.Second)
		if got := w.twin("set").Reported.Value; got != "99999" {
			t.Errorf("the newest value is 99999, %s is reported", got)
		}
		if got := w.count() - n; got > 1010 {
			t.Errorf("%d reports in 10 s", got)
		}
		wk, err := w.host.worker("ns", "d")
		if err != nil {
			t.Fatal(err)
		}
		if q := wk.sub.inbox.queue; q != nil {
			t.Errorf("room for %d values is kept", cap(*q))
		}
	})
}

func TestReportCycleOfWhatIsWatched(t *testing.T) {
	tellingWorld(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", `{"name": "temp", "collectCycle": 100, "reportCycle": 1000, "visitors": {"configData": {"cell": "t"}}}`))
		w.start()
		defer w.stop()
		n := w.count()
		w.settle(10 * time.Second)
		if got := w.count() - n; got < 9 || got > 11 {
			t.Errorf("%d reports in 10 s with a reportCycle of 1 s", got)
		}
	})
}
