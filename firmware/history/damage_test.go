package history

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// TestDamageCostsItself flips a bit at every place of a segment: the history opens, nothing altered comes out, values in other frames stay, and a
// target is told what it lost.
func TestDamageCostsItself(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	const frames, each = 8, 5
	for i := range frames {
		record(h, "a", i*each, i*each+each)
		record(h, string(rune('b'+i)), i, i+1)
		mustFlush(t, h)
	}
	end := h.w.off
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(opt.Dir, "h-0000000000000001.seg")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for where := int64(0); where < end; where += 7 {
		b := append([]byte(nil), whole...)
		b[where] ^= 1 << (where / 7 % 8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := Open(opt)
		if err != nil {
			t.Fatalf("byte %d: %v", where, err)
		}
		got, err := h.Range("plant", "a", "speed", time.Time{}, time.Time{}, 0)
		if err != nil {
			t.Fatalf("byte %d: %v", where, err)
		}
		for _, e := range got {
			if e.Device != "a" || e.Value.AsInt() < 0 || e.Value.AsInt() >= frames*each || !e.Time().Equal(at(int(e.Value.AsInt()))) {
				t.Fatalf("byte %d: %+v", where, e)
			}
		}
		// The first frame defines the name that all others use.
		if first := where < segHeader+200; !first && len(got) != (frames-1)*each && len(got) != frames*each {
			t.Fatalf("byte %d: %d values of %d are left", where, len(got), frames*each)
		}
		record(h, "a", 1000, 1001)
		mustFlush(t, h)
		if got, err := h.Range("plant", "a", "speed", time.Time{}, time.Time{}, 1); err != nil || len(got) != 1 || got[0].Value.AsInt() != 1000 {
			t.Fatalf("byte %d: what was recorded after the damage: %v, %v", where, ints(got), err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"h-0000000000000002.seg"} {
			if err := os.Remove(filepath.Join(opt.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// TestAnotherKey: what another key sealed is removed and counted, and the history goes on.
func TestAnotherKey(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 10)
	mustFlush(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	opt.Sealer = clearSealer{2}
	h = mustOpen(t, opt)
	if s := h.Stats(); s.Damaged != 1 || s.Values != 0 {
		t.Errorf("%+v", s)
	}
	record(h, "a", 10, 11)
	mustFlush(t, h)
	wantRange(t, h, "a", 10, 11)
}

// faultyFS fails so many calls that write, from one on. A failing write stores half of its bytes, as a disk that fills up does.
type faultyFS struct {
	osFS
	calls, from, last int
}

func (f *faultyFS) fail() error {
	f.calls++
	if f.calls > f.from && f.calls <= f.from+f.last {
		return &os.PathError{Op: "write", Path: "injected", Err: syscall.ENOSPC}
	}
	return nil
}

func (f *faultyFS) create(path string) (file, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	inner, err := f.osFS.create(path)
	return &faultyFile{inner, f}, err
}

func (f *faultyFS) open(path string) (file, error) {
	inner, err := f.osFS.open(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{inner, f}, nil
}

func (f *faultyFS) rename(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.osFS.rename(from, to)
}

func (f *faultyFS) syncDir(string) error { return f.fail() }

type faultyFile struct {
	file
	fs *faultyFS
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.fail(); err != nil {
		n, _ := f.file.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.file.WriteAt(b, off)
}

func (f *faultyFile) Datasync() error { return f.fs.fail() }

// TestFullDiskAtEveryWrite lets each write be the first of some that fail: nothing is lost while the queue has room, order stays, and it all goes on by itself.
func TestFullDiskAtEveryWrite(t *testing.T) {
	for _, last := range []int{1, 3} {
		for from := 0; ; from += 1 + from/8 {
			f := &faultyFS{from: from, last: last}
			opt := testOptions(t.TempDir())
			opt.fs = f
			h, err := Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			n, failures := 0, 0
			for range 60 {
				h.Record("plant", "text", "state", device.String(string(make([]byte, 3000))).At(at(n)))
				record(h, "a", n, n+5)
				n += 5
				if err := h.Flush(); err != nil {
					if !errors.Is(err, syscall.ENOSPC) || h.Err() == nil || h.Stats().Error == "" {
						t.Fatalf("from %d: %v", from, err)
					}
					failures++
				}
			}
			f.last = 0
			mustFlush(t, h)
			wantRange(t, h, "a", 0, n)
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			h = mustOpen(t, testOptions(filepath.Dir(opt.Dir)))
			wantRange(t, h, "a", 0, n)
			if s := h.Stats(); s.Damaged != 0 || s.DroppedFull != 0 {
				t.Fatalf("from %d: %+v", from, s)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if failures == 0 {
				break
			}
		}
	}
}

// TestQueueIsBounded: while the disk takes nothing, memory is bounded, drops are counted durably, and a target is told.
func TestQueueIsBounded(t *testing.T) {
	f := &faultyFS{last: 1 << 30}
	opt := testOptions(t.TempDir())
	opt.fs = f
	h := mustOpen(t, opt)
	r := mustReader(t, h, "influx")
	record(h, "a", 0, maxQueued)
	if err := h.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	record(h, "a", maxQueued, maxQueued+100)
	h.Record("plant", "a", "speed", device.String(string(make([]byte, maxDatum+1))))
	if s := h.Stats(); s.DroppedFull != 100 || s.DroppedTooLarge != 1 || s.Queued != maxQueued || s.Error == "" || s.Targets[0].Lost != 101 {
		t.Errorf("%+v", s)
	}
	f.last = 0
	mustFlush(t, h)
	record(h, "a", 20_000, 20_001)
	mustFlush(t, h)
	n := 0
	for n < maxQueued+1 {
		list := next(t, r, 5000)
		n += len(list)
		if err := r.Ack(list[len(list)-1].Seq); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = mustOpen(t, testOptions(filepath.Dir(opt.Dir)))
	if s := h.Stats(); s.DroppedFull != 100 || s.DroppedTooLarge != 1 || s.Targets[0].Lost != 101 || s.Targets[0].Pending != 0 {
		t.Errorf("after a restart: %+v", s)
	}
}

// TestAgainstModel compares random histories with a list: flushes, restarts, crashes that lose what was not flushed, rings that wrap, targets.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(6) {
		modelRun(t, rand.New(rand.NewPCG(seed, 6)))
	}
}

func modelRun(t *testing.T, r *rand.Rand) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	var all []Entry // by sequence: index i has i+1
	durable, acked, ackedDurable := 0, 0, 0
	devices := []string{"a", "b", "c", "noisy"}
	reader, err := h.Reader("t")
	if err != nil {
		t.Fatal(err)
	}
	mustFlush(t, h)
	for step := range 300 {
		switch p := r.IntN(100); {
		case p < 50:
			for range r.IntN(60) {
				name := devices[r.IntN(4)]
				size := 20
				if name == "noisy" {
					size = 1500
				}
				v := device.String(string(make([]byte, r.IntN(size)))).At(at(r.IntN(1000)))
				h.Record("n", name, "p", v)
				all = append(all, Entry{Seq: uint64(len(all) + 1), Device: name, Value: v}) //nolint:gosec // small
			}
		case p < 80:
			mustFlush(t, h)
			durable, ackedDurable = len(all), acked
		case p < 90:
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if list, err := reader.Next(ctx, 1+r.IntN(300)); err == nil {
				last := acked
				for _, e := range list {
					if w := all[e.Seq-1]; int(e.Seq) <= last || w.Device != e.Device || !w.Value.Same(e.Value) || int(e.Seq) > durable { //nolint:gosec // small
						t.Fatalf("value %d after %d", e.Seq, last)
					}
					last = int(e.Seq) //nolint:gosec // small
				}
				acked = last
				if err := reader.Ack(list[len(list)-1].Seq); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
		default:
			if crash := r.IntN(2) == 0; crash {
				h.w.release() // what is in memory is gone
				all, acked = all[:durable], ackedDurable
			} else if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			durable, ackedDurable = len(all), acked
			opt.Epoch++
			h = mustOpen(t, opt)
			if reader, err = h.Reader("t"); err != nil {
				t.Fatal(err)
			}
			if s := h.Stats(); int(s.Targets[0].Acked) != acked || s.Damaged != 0 { //nolint:gosec // small
				t.Fatalf("acknowledged %d, damaged %d; want %d, 0", s.Targets[0].Acked, s.Damaged, acked)
			}
			if int(h.queue.seq) != len(all) { //nolint:gosec // small
				t.Fatalf("goes on with value %d, want %d", h.queue.seq, len(all))
			}
		}
		if step%10 == 0 {
			compare(t, h, all[:durable], devices)
		}
	}
	compare(t, h, all[:durable], devices)
}

// compare wants of each device its newest values, as they were recorded, and of the quiet ones all.
func compare(t *testing.T, h *History, all []Entry, devices []string) {
	t.Helper()
	for _, name := range devices {
		var want []Entry
		for _, e := range all {
			if e.Device == name {
				want = append(want, e)
			}
		}
		got, err := h.Range("n", name, "p", time.Time{}, time.Time{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > len(want) || name != "noisy" && len(got) != len(want) || name == "noisy" && len(got) < min(len(want), 200) {
			t.Fatalf("%s has %d values of %d", name, len(got), len(want))
		}
		for i, w := range want[len(want)-len(got):] {
			if got[i].Seq != w.Seq || !got[i].Value.Same(w.Value) || !got[i].Time().Equal(w.Value.Server) {
				t.Fatalf("%s: %+v, want %+v", name, got[i], w)
			}
		}
	}
}
