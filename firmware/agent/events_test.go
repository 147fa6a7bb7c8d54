package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

type fakeOutbox struct {
	hang    chan struct{} // if it is set, the disk hangs until it is closed
	bodies  []string
	commits int
	most    int // bytes of a body
}

func (f *fakeOutbox) AppendAll(_ string, bodies [][]byte) error {
	if f.hang != nil {
		<-f.hang
	}
	for _, body := range bodies {
		if len(body) > f.most {
			return errors.New("too large")
		}
	}
	f.commits++
	for _, body := range bodies {
		text, err := canon.ToJSON(body)
		if err != nil {
			return err
		}
		f.bodies = append(f.bodies, string(text))
	}
	return nil
}

func TestRecorderHoldsBackWhatFlaps(t *testing.T) { synctest.Test(t, holdsBack) }

func holdsBack(t *testing.T) {
	var out bytes.Buffer
	box := &fakeOutbox{most: 1 << 16}
	r := newRecorder("gw-1", box, slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	defer r.close()
	r.now = func() time.Time { return now }
	ref := wire.ObjectRef{Kind: "Device", APIVersion: "devices.kubeedge.io/v1beta1", Namespace: "default", Name: "pump"}
	for range 25 {
		r.Event(ref, "Warning", "Unreachable", "no answer")
	}
	time.Sleep(eventGather)
	synctest.Wait()
	if len(box.bodies) != eventBurst {
		t.Errorf("%d events of 25 passed, want %d", len(box.bodies), eventBurst)
	}
	other := ref
	other.Name = "fan"
	r.Event(other, "Warning", "Unreachable", "no answer")
	time.Sleep(eventGather)
	synctest.Wait()
	if len(box.bodies) != eventBurst+1 {
		t.Error("one device's flapping holds back another's event")
	}
	now = now.Add(eventRefill)
	r.Event(ref, "Warning", "Unreachable", "no answer")
	time.Sleep(eventGather)
	synctest.Wait()
	last := box.bodies[len(box.bodies)-1]
	for _, want := range []string{`"count":16`, "(15 similar events were held back)", `"name":"pump"`, `"reason":"Unreachable"`, `"type":"Warning"`} {
		if !strings.Contains(last, want) {
			t.Errorf("the next event does not say %s: %s", want, last)
		}
	}
	if out.Len() != 0 {
		t.Errorf("events are logged by whoever records them; the recorder logged them again:\n%s", out.String())
	}
}

// TestRecorderHearsEachAlarm: alarms of a device do not hide each other, and a thousand that flap are bounded all the same.
func TestRecorderHearsEachAlarm(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &recorder{log: slog.New(slog.DiscardHandler), now: func() time.Time { return now }, buckets: map[eventKey]*eventBucket{}, queue: make(chan []byte, 1<<16)}
	raise := func(alarm string) {
		r.Event(wire.ObjectRef{Kind: "Device", Namespace: "default", Name: "pump", FieldPath: alarm}, "Warning", "AlarmRaised", "it is hot")
	}
	for range 100 {
		raise("flaps")
	}
	if n := len(r.queue); n != eventBurst {
		t.Errorf("%d events of one alarm passed, want %d", n, eventBurst)
	}
	for i := range 200 {
		raise(strconv.Itoa(i))
	}
	if n := len(r.queue); n != eventBurst+200 {
		t.Errorf("%d events passed: one alarm that flaps hides others", n)
	}
	for i := range 400 {
		raise(strconv.Itoa(i))
	}
	if n := len(r.queue); n != wideBurst {
		t.Errorf("%d events of one device passed, want %d", n, wideBurst)
	}
	now = now.Add(wideRefill)
	raise("flaps")
	raise("0")
	if n := len(r.queue); n != wideBurst+1 {
		t.Errorf("%d events passed after %v, want one more", n, wideRefill)
	}
}

// TestRecorderWritesTogether: what comes while the disk is busy is one commit, in order; an event that cannot be stored costs no other; and close waits.
func TestRecorderWritesTogether(t *testing.T) {
	var out bytes.Buffer
	box := &fakeOutbox{most: 2000}
	r := &recorder{outbox: box, log: slog.New(slog.NewTextHandler(&out, nil)), now: time.Now, buckets: map[eventKey]*eventBucket{},
		queue: make(chan []byte, eventQueue), quit: make(chan struct{}), done: make(chan struct{})}
	const n = 2*eventBatch + 3
	for i := range n {
		r.Event(wire.ObjectRef{Kind: "Pod", Name: strconv.Itoa(i)}, "Normal", "Started", "Container started")
	}
	go r.write()
	r.close()
	if len(box.bodies) != n || box.commits != 3 {
		t.Errorf("%d events in %d commits", len(box.bodies), box.commits)
	}
	for i, b := range box.bodies {
		if !strings.Contains(b, `"name":"`+strconv.Itoa(i)+`"`) {
			t.Fatalf("event %d is %s", i, b)
		}
	}
	r = newRecorder("gw-1", box, r.log)
	r.Event(wire.ObjectRef{Kind: "Pod", Name: "large"}, "Normal", "Started", strings.Repeat("x", 3000))
	r.Event(wire.ObjectRef{Kind: "Pod", Name: "small"}, "Normal", "Started", "x")
	r.close()
	if len(box.bodies) != n+1 || !strings.Contains(out.String(), "events=1") {
		t.Errorf("%d events; log:\n%s", len(box.bodies), out.String())
	}
}

// TestRecorderOnADiskThatHangs: nobody waits for it; what found no room is counted, and told once the disk works again.
func TestRecorderOnADiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &fakeOutbox{most: 1 << 16, hang: make(chan struct{})}
		r := newRecorder("gw-1", box, slog.New(slog.DiscardHandler))
		event := func(i int) {
			r.Event(wire.ObjectRef{Kind: "Pod", Name: strconv.Itoa(i)}, "Normal", "Started", "Container started")
		}
		event(0)
		time.Sleep(eventGather)
		synctest.Wait() // it is with the disk
		const lost = 7
		for i := range eventQueue + lost {
			event(1 + i) // in a bubble, one that waited would be a deadlock
		}
		if r.Lost() != lost {
			t.Errorf("%d events are counted as lost, want %d", r.Lost(), lost)
		}
		close(box.hang)
		r.close()
		if n := len(box.bodies); n != 1+eventQueue+1 {
			t.Errorf("%d events were stored, want all that were queued and one about the others", n)
		}
		told := 0
		for _, b := range box.bodies {
			if strings.Contains(b, `"reason":"EventsLost"`) && strings.Contains(b, "7 events were lost") && strings.Contains(b, `"kind":"Node","name":"gw-1"`) {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%d events tell of the loss", told)
		}
	})
}

// TestRecorderSyncsRarely: twenty pods that start within two seconds, with four events each, cost a commit, and with it a sync, for each fifth of a
// second and not one for each event.
func TestRecorderSyncsRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := &fakeOutbox{most: 1 << 16}
		r := newRecorder("gw-1", box, slog.New(slog.DiscardHandler))
		const pods, each = 20, 4
		for i := range each {
			for pod := range pods {
				r.Event(wire.ObjectRef{Kind: "Pod", Name: strconv.Itoa(pod)}, "Normal", strconv.Itoa(i), "something")
				time.Sleep(25 * time.Millisecond)
			}
		}
		r.close()
		if len(box.bodies) != pods*each || box.commits > 11 {
			t.Errorf("%d events in %d commits", len(box.bodies), box.commits)
		}
	})
}
