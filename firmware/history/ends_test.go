package history

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// crash is what a power cut leaves: nothing more of h reaches the disk, and another one opens it.
func crash(t testing.TB, h *History, opt Options) *History {
	t.Helper()
	h.w.release()
	opt.Epoch++
	return mustOpen(t, opt)
}

// targetNames are the targets, in order.
func targetNames(h *History) string {
	var names []string
	for _, t := range h.Stats().Targets {
		names = append(names, fmt.Sprintf("%s@%d", t.Name, t.Acked))
	}
	return strings.Join(names, " ")
}

// TestForget: a target that was forgotten does not come back with a restart, whatever older segments say of it; its name then stands for a new
// target, which begins with the oldest value, and stays so.
func TestForget(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 100)
	mustFlush(t, h)
	for _, name := range []string{"gone", "stays"} {
		r := mustReader(t, h, name)
		got := next(t, r, 50)
		if err := r.Ack(got[len(got)-1].Seq); err != nil {
			t.Fatal(err)
		}
		if h.Forget(name) {
			t.Errorf("%s was forgotten while it reads", name)
		}
		r.Close()
	}
	// Full segments say of both in their indexes.
	for i := 0; len(h.segs) < 4; i += 2000 {
		record(h, "a", 100+i, 2100+i)
		mustFlush(t, h)
	}
	h = crash(t, h, opt)
	if got := targetNames(h); got != "gone@50 stays@50" {
		t.Fatalf("targets: %s", got)
	}
	if !h.Forget("gone") || h.Forget("gone") || h.Forget("nobody") {
		t.Error("Forget tells something else than whether there was such a target")
	}
	if got := targetNames(crash(t, h, opt)); got != "gone@50 stays@50" {
		t.Fatalf("before it was durable: %s", got)
	}
	h = crash(t, h, opt)
	h.Forget("gone")
	if due, ok := h.due(); !ok || due > h.opt.Window {
		t.Errorf("a target was forgotten, and a flush is due in %v (%v)", due, ok)
	}
	mustFlush(t, h)
	for range 2 { // the second time without anything new on the disk
		h = crash(t, h, opt)
		if got := targetNames(h); got != "stays@50" {
			t.Fatalf("after a power cut: %s", got)
		}
	}
	r := mustReader(t, h, "gone")
	if got := next(t, r, 10); got[0].Seq != 1 {
		t.Errorf("a new target of the same name begins with value %d", got[0].Seq)
	} else if err := r.Ack(got[4].Seq); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, h)
	h = crash(t, h, opt)
	if got := targetNames(h); got != "gone@5 stays@50" {
		t.Errorf("the new target of an old name: %s", got)
	}
	// The ring wraps, and segments are written again.
	h.Forget("stays")
	for i := range 300 {
		record(h, "quiet", i, i+1)
		record(h, "a", 2000*i, 2000*(i+1))
		mustFlush(t, h)
	}
	if h.Stats().Overwritten == 0 {
		t.Error("the ring did not wrap: the test shows nothing")
	}
	if got := targetNames(crash(t, h, opt)); got != "gone@5" {
		t.Errorf("after the ring has wrapped: %s", got)
	}
}

// TestForgetOnAFullDisk: what the disk did not take is written when it takes something again.
func TestForgetOnAFullDisk(t *testing.T) {
	f := &faultyFS{}
	opt := testOptions(t.TempDir())
	opt.fs = f
	h := mustOpen(t, opt)
	record(h, "a", 0, 10)
	mustReader(t, h, "gone").Close()
	mustFlush(t, h)
	f.last = 1 << 30
	h.Forget("gone")
	if err := h.Flush(); err == nil {
		t.Fatal("the disk is full, and took it")
	}
	f.last = 0
	mustFlush(t, h)
	if got := targetNames(crash(t, h, testOptions(filepath.Dir(opt.Dir)))); got != "" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestOnlyCursors: a segment in which the only thing is what targets there are counts, too.
func TestOnlyCursors(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 10)
	mustReader(t, h, "gone").Close()
	mustFlush(t, h)
	h.retire() // as after a write that failed
	h.Forget("gone")
	mustFlush(t, h)
	h.retire()
	if err := h.beginSegment(11); err != nil { // and then the power fails
		t.Fatal(err)
	}
	for range 3 {
		h = crash(t, h, opt)
		if got := targetNames(h); got != "" {
			t.Fatalf("after a power cut: %s", got)
		}
		wantRange(t, h, "a", 0, 10)
	}
}

// TestSlowTarget: a target that is slower than the ring gets the newest values, is told with the first of them how many it missed, and again after a push
// that failed; what the ring gave up is counted for the device that it belonged to.
func TestSlowTarget(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 100)
	mustFlush(t, h)
	r := mustReader(t, h, "slow")
	first := next(t, r, 10)
	if first[0].Missed != 0 {
		t.Errorf("the first value missed %d", first[0].Missed)
	}
	if err := r.Ack(first[9].Seq); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		record(h, "a", 100+2000*i, 100+2000*(i+1))
		mustFlush(t, h)
	}
	for range 2 {
		got := next(t, r, 1000)
		if got[0].Missed == 0 || got[0].Missed != got[0].Seq-first[9].Seq-1 {
			t.Errorf("after value %d comes %d, missed %d", first[9].Seq, got[0].Seq, got[0].Missed)
		}
		for _, e := range got[1:] {
			if e.Missed != 0 {
				t.Fatalf("value %d missed %d, and there is no hole", e.Seq, e.Missed)
			}
		}
		r.Rewind()
	}
	got := next(t, r, 1)
	if err := r.Ack(got[0].Seq); err != nil {
		t.Fatal(err)
	}
	s, d := h.Stats(), h.Device("plant", "a")
	if s.Targets[0].Lost != got[0].Missed {
		t.Errorf("the target lost %d, it was told of %d", s.Targets[0].Lost, got[0].Missed)
	}
	if d.Overwritten == 0 || d.Overwritten != s.Overwritten || d.Values != s.Values || d.Bytes == 0 {
		t.Errorf("the only device: %+v; all: %+v", d, s)
	}
}

// TestDeviceCounters: what is dropped is counted for the device that it came from.
func TestDeviceCounters(t *testing.T) {
	f := &faultyFS{last: 1 << 30}
	opt := testOptions(t.TempDir())
	opt.fs = f
	h := mustOpen(t, opt)
	record(h, "a", 0, maxQueued)
	if err := h.Flush(); err == nil {
		t.Fatal(syscall.ENOSPC)
	}
	record(h, "a", 0, 30)
	record(h, "b", 0, 12)
	h.Record("plant", "b", "speed", device.String(string(make([]byte, maxDatum+1))))
	h.Record("plant", strings.Repeat("x", maxNames+1), "speed", device.Int(1))
	if d := h.Device("plant", "a"); d.DroppedFull != 30 || d.DroppedTooLarge != 0 {
		t.Errorf("a: %+v", d)
	}
	if d := h.Device("plant", "b"); d.DroppedFull != 12 || d.DroppedTooLarge != 1 {
		t.Errorf("b: %+v", d)
	}
	if d := h.Device("plant", "c"); d != (DeviceStats{}) {
		t.Errorf("a device that nobody knows: %+v", d)
	}
	for i := range 2 * maxDropKeys {
		h.Record("plant", fmt.Sprint("d", i), "speed", device.Int(1))
	}
	if n := len(h.queue.drops); n > maxDropKeys {
		t.Errorf("counters of %d devices are kept", n)
	}
	if s := h.Stats(); s.DroppedFull != 42+2*maxDropKeys || s.DroppedTooLarge != 2 {
		t.Errorf("%+v", s)
	}
}

// TestDeletedDevice: what a device that was deleted left makes room before anything else does, and stays until then; one that is made again keeps what it has.
func TestDeletedDevice(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	for i := range 20 {
		for _, name := range []string{"deleted", "again", "stays"} {
			record(h, name, 500*i, 500*(i+1))
		}
		mustFlush(t, h)
	}
	h.Retain(func(_, name string) bool { return name == "stays" })
	for _, name := range []string{"deleted", "again", "stays"} {
		wantRange(t, h, name, 0, 10_000)
	}
	record(h, "again", 10_000, 10_001)
	mustFlush(t, h)
	for i := 0; h.Device("plant", "deleted").Overwritten == 0; i++ {
		if i > 1000 {
			t.Fatal("it never made room")
		}
		if s := h.Stats(); s.Overwritten > 0 {
			t.Fatalf("%d values of somebody else made room", s.Overwritten)
		}
		record(h, "new", 1000*i, 1000*(i+1))
		mustFlush(t, h)
	}
	wantRange(t, h, "stays", 0, 10_000)
	wantRange(t, h, "again", 0, 10_001)
	for i := range 150 {
		record(h, "new", 1000*i, 1000*(i+1))
		mustFlush(t, h)
	}
	if d := h.Device("plant", "deleted"); d != (DeviceStats{}) {
		t.Errorf("the ring has wrapped, and of the deleted device there is %+v", d)
	}
	if d := h.Device("plant", "new"); d.Overwritten == 0 {
		t.Error("the ring did not wrap: the test shows nothing")
	}
}

// TestClockStepsBack: values stay in the order in which they came when the clock is set back, in ranges and for targets, over a restart, and
// ranges of time find those of both sides of the step.
func TestClockStepsBack(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	later, earlier := time.Date(2031, 5, 1, 12, 0, 0, 0, time.UTC), time.Date(1970, 1, 1, 0, 0, 7, 0, time.UTC)
	for i := range 30 {
		when := later
		if i >= 10 {
			when = earlier
		}
		h.Record("plant", "a", "speed", device.Int(int64(i)).At(when.Add(time.Duration(i)*time.Second)))
		if i%4 == 3 {
			mustFlush(t, h)
		}
	}
	mustFlush(t, h)
	for range 2 {
		got, err := h.Range("plant", "a", "speed", time.Time{}, time.Time{}, 0)
		if err != nil || len(got) != 30 {
			t.Fatalf("%d values, %v", len(got), err)
		}
		r := mustReader(t, h, "t")
		for i, e := range next(t, r, 100) {
			if e.Value.AsInt() != int64(i) || got[i].Value.AsInt() != int64(i) || e.Seq != uint64(i+1) || e.Missed != 0 {
				t.Fatalf("value %d is %+v for the target, and %+v in a range", i, e, got[i])
			}
		}
		r.Close()
		if got, err = h.Range("plant", "a", "", later, time.Time{}, 0); err != nil || len(got) != 10 {
			t.Errorf("of the time before the step: %v, %v", ints(got), err)
		}
		if got, err = h.Range("plant", "a", "", time.Time{}, later.Add(-time.Hour), 5); err != nil || fmt.Sprint(ints(got)) != "[25 26 27 28 29]" {
			t.Errorf("of the time after the step: %v, %v", ints(got), err)
		}
		h = crash(t, h, opt)
	}
}

// TestBytesPerWindow counts what 100 values a second cost: the bytes of a window, and one write and one sync for it, so that what reaches the
// flash is those bytes and the pages that they lie in.
func TestBytesPerWindow(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.MaxBytes = 64 << 20
	h := mustOpen(t, opt)
	const windows = 60
	window := func(i int) {
		for d := range 100 {
			h.Record("plant", fmt.Sprintf("device-%d", d), fmt.Sprintf("point-%d", i%10), device.Float32(float32(i)*0.37).At(at(1000*i+d)))
		}
		mustFlush(t, h)
	}
	for i := range 10 { // names are defined
		window(i)
	}
	before := h.Stats()
	for i := range windows {
		window(10 + i)
	}
	after := h.Stats()
	if got := (after.Written - before.Written) / windows; got > 1100 {
		t.Errorf("a window of 100 values takes %d bytes, at most 1100 are allowed", got)
	}
	if got := after.Syncs - before.Syncs; got != windows {
		t.Errorf("%d syncs for %d windows", got, windows)
	}
}

// TestMissed: values that were lost before they came are counted for their device, over restarts in the sum, and a target is told how many.
func TestMissed(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	r := mustReader(t, h, "influx")
	record(h, "a", 0, 5)
	h.Missed("plant", "a", 7)
	record(h, "a", 12, 15)
	mustFlush(t, h)
	got, err := r.Next(t.Context(), 100)
	if err != nil || len(got) != 8 || got[5].Seq != 13 || got[5].Missed != 7 || got[4].Missed != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := r.Ack(got[7].Seq); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if d := h.Device("plant", "a"); d.DroppedFull != 7 || d.Values != 8 {
		t.Errorf("%+v", d)
	}
	h.Missed("plant", "b", 1) // and no value after it
	all := h.AllDevices()
	if len(all) != 2 || all[0].Name != "a" || all[0].DeviceStats != h.Device("plant", "a") || all[1].Name != "b" || all[1].DeviceStats != h.Device("plant", "b") || all[1].DroppedFull != 1 {
		t.Errorf("%+v", all)
	}
	mustFlush(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = mustOpen(t, opt)
	if s := h.Stats(); s.DroppedFull != 8 || len(s.Targets) != 1 || s.Targets[0].Lost != 7 {
		t.Errorf("after a restart: %+v", s)
	}
}
