package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// clearSealer lets tests of thousands of histories run fast: it seals with a checksum of the key, the place and the text.
type clearSealer struct{ id byte }

func (s clearSealer) sum(text, ad []byte) (out [sealOverhead]byte) {
	n := uint64(s.id) + 14695981039346656037
	for _, part := range [][]byte{ad, text} {
		for _, c := range part {
			n = (n ^ uint64(c)) * 1099511628211
		}
	}
	for i := range out {
		out[i] = byte(n >> (8 * (i % 8)))
	}
	return out
}

func (s clearSealer) Seal(dst, text, ad []byte) ([]byte, error) {
	sum := s.sum(text, ad)
	return append(append(dst, sum[:]...), text...), nil
}

func (s clearSealer) Open(dst, sealed, ad []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, errors.New("short")
	}
	if sum := s.sum(sealed[sealOverhead:], ad); string(sum[:]) != string(sealed[:sealOverhead]) {
		return nil, errors.New("altered")
	}
	return append(dst, sealed[sealOverhead:]...), nil
}

func (s clearSealer) KeyID() [8]byte { return [8]byte{s.id} }

// quickFS leaves out all syncs: what survives a power cut is hil-tests/powercut's matter.
type quickFS struct{ osFS }

type quickFile struct{ file }

func (quickFile) Datasync() error { return nil }

func (quickFS) syncDir(string) error { return nil }

func (f quickFS) create(path string) (file, error) { return quickly(f.osFS.create(path)) }
func (f quickFS) open(path string) (file, error)   { return quickly(f.osFS.open(path)) }

func quickly(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return quickFile{f}, nil
}

func testOptions(dir string) Options {
	return Options{fs: quickFS{}, Dir: filepath.Join(dir, "history"), Sealer: clearSealer{1}, Epoch: 1, MaxBytes: 1 << 20, DeviceBytes: 1 << 20, Log: slog.New(slog.DiscardHandler)}
}

func mustOpen(t testing.TB, opt Options) *History {
	t.Helper()
	h, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func mustFlush(t testing.TB, h *History) {
	t.Helper()
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
}

func at(n int) time.Time { return time.UnixMicro(1_700_000_000_000_000 + int64(n)*1000).UTC() }

// record records the integers from..to-1 for a device, a millisecond apart.
func record(h *History, name string, from, to int) {
	for i := from; i < to; i++ {
		h.Record("plant", name, "speed", device.Int(int64(i)).At(at(i)))
	}
}

func ints(entries []Entry) (out []int64) {
	for _, e := range entries {
		out = append(out, e.Value.AsInt())
	}
	return out
}

func wantRange(t testing.TB, h *History, name string, from, to int) {
	t.Helper()
	got, err := h.Range("plant", name, "speed", time.Time{}, time.Time{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != to-from {
		t.Fatalf("%s: %d values, want %d", name, len(got), to-from)
	}
	for i, e := range got {
		if e.Value.AsInt() != int64(from+i) || !e.Time().Equal(at(from+i)) || e.Value.Quality != device.Good || e.Property != "speed" {
			t.Fatalf("%s: value %d is %+v, want %d", name, i, e, from+i)
		}
	}
}

func TestRecordAndRange(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 100)
	record(h, "b", 0, 10)
	mustFlush(t, h)
	record(h, "a", 100, 150)
	mustFlush(t, h)
	for range 2 {
		wantRange(t, h, "a", 0, 150)
		wantRange(t, h, "b", 0, 10)
		got, err := h.Range("plant", "a", "speed", at(20), at(120), 10)
		if err != nil || fmt.Sprint(ints(got)) != "[111 112 113 114 115 116 117 118 119 120]" {
			t.Fatalf("Range: %v, %v", ints(got), err)
		}
		if got, err := h.Range("plant", "c", "", time.Time{}, time.Time{}, 0); err != nil || len(got) != 0 {
			t.Fatalf("an unknown device has %v, %v", got, err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		opt.Epoch++
		h = mustOpen(t, opt)
	}
	record(h, "a", 150, 151)
	mustFlush(t, h)
	got, err := h.Range("plant", "a", "", time.Time{}, time.Time{}, 2)
	if err != nil || len(got) != 2 || got[0].Epoch != 1 || got[1].Epoch != 3 || got[1].Seq != got[0].Seq+1 && got[1].Seq != 161 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// TestRunFlushesInTime: a value is on the disk within the window, and an idle history writes nothing.
func TestRunFlushesInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h, err := Open(testOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		for i := range 3 {
			record(h, "a", i*10, i*10+10)
			time.Sleep(850 * time.Millisecond)
			synctest.Wait()
			if s := h.Stats(); s.Queued != 10 || s.Values != int64(i*10) {
				t.Fatalf("before the window ends: %+v", s)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if s := h.Stats(); s.Queued != 0 || s.Values != int64(i*10+10) {
				t.Fatalf("after the window: %+v", s)
			}
			time.Sleep(time.Hour)
		}
		if s := h.Stats(); s.Syncs > 6 {
			t.Errorf("%d syncs for 3 windows", s.Syncs)
		}
		record(h, "a", 30, 40)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	})
	wantRange(t, mustOpen(t, testOptions(dir)), "a", 0, 40)
}

func next(t testing.TB, r *Reader, limit int) []Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got, err := r.Next(ctx, limit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustReader(t testing.TB, h *History, name string) *Reader {
	t.Helper()
	r, err := h.Reader(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// TestReader: a target gets all in order, what it has not acknowledged again, and goes on behind its cursor after a restart.
func TestReader(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "a", 0, 100)
	mustFlush(t, h)
	r := mustReader(t, h, "influx")
	if _, err := h.Reader("influx"); !errors.Is(err, ErrTargets) {
		t.Errorf("a second reader: %v", err)
	}
	if got := ints(next(t, r, 7)); fmt.Sprint(got) != "[0 1 2 3 4 5 6]" {
		t.Fatal(got)
	}
	first := next(t, r, 3)
	if fmt.Sprint(ints(first)) != "[7 8 9]" {
		t.Fatal(ints(first))
	}
	if err := r.Ack(first[0].Seq); err != nil {
		t.Fatal(err)
	}
	if err := r.Ack(first[2].Seq + 1); !errors.Is(err, ErrTargets) {
		t.Errorf("acknowledged what it never got: %v", err)
	}
	r.Rewind()
	if got := ints(next(t, r, 2)); fmt.Sprint(got) != "[8 9]" {
		t.Fatal(got)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(context.Background(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
	h = mustOpen(t, opt)
	r = mustReader(t, h, "influx")
	got := next(t, r, 1000)
	if len(got) != 92 || got[0].Value.AsInt() != 8 || got[91].Value.AsInt() != 99 {
		t.Fatalf("after a restart: %v", ints(got))
	}
	if err := r.Ack(got[91].Seq); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats().Targets[0]; s.Pending != 0 || s.Lost != 0 || s.Name != "influx" || !s.Open {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if got, err := r.Next(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next with nothing to give: %v, %v", ints(got), err)
	}
	done := make(chan []Entry)
	go func() { e, _ := r.Next(context.Background(), 5); done <- e }()
	record(h, "a", 100, 101)
	mustFlush(t, h)
	if got := ints(<-done); fmt.Sprint(got) != "[100]" {
		t.Fatal(got)
	}
}

// TestRing: what does not fit is overwritten, oldest first, a target's losses are counted to the last value, and a quiet device
// keeps what it has beside a noisy one.
func TestRing(t *testing.T) {
	opt := testOptions(t.TempDir())
	h := mustOpen(t, opt)
	record(h, "quiet", 0, 50)
	mustFlush(t, h)
	slow := mustReader(t, h, "slow")
	if got := next(t, slow, 20); ints(got)[19] != 19 {
		t.Fatal(ints(got))
	} else if err := slow.Ack(got[19].Seq); err != nil {
		t.Fatal(err)
	}
	const total = 400_000
	for i := 0; i < total; i += 2000 {
		record(h, "noisy", i, i+2000)
		mustFlush(t, h)
		if s := h.Stats(); s.Bytes > opt.MaxBytes {
			t.Fatalf("%d bytes of %d", s.Bytes, opt.MaxBytes)
		}
	}
	wantRange(t, h, "quiet", 0, 50)
	check := func() {
		t.Helper()
		got, err := h.Range("plant", "noisy", "speed", time.Time{}, time.Time{}, 0)
		if err != nil || len(got) < 50_000 || got[len(got)-1].Value.AsInt() != total-1 {
			t.Fatalf("%d values, %v", len(got), err)
		}
		for i, e := range got {
			if e.Value.AsInt() != got[0].Value.AsInt()+int64(i) {
				t.Fatalf("a hole before %d", e.Value.AsInt())
			}
		}
	}
	check()
	st := h.Stats()
	if st.Overwritten+uint64(st.Values) != total+50 {
		t.Errorf("%d values there, %d overwritten, of %d", st.Values, st.Overwritten, total+50)
	}
	slow.Rewind()
	got, last := 0, uint64(20)
	holes := uint64(0)
	for got < int(st.Targets[0].Pending) {
		batch := next(t, slow, 1000)
		for _, e := range batch {
			holes += e.Seq - last - 1
			last = e.Seq
		}
		got += len(batch)
		if err := slow.Ack(last); err != nil {
			t.Fatal(err)
		}
	}
	if s := h.Stats().Targets[0]; s.Lost != holes || s.Pending != 0 || uint64(got)+holes+20 != total+50 || st.Targets[0].Lost != holes {
		t.Errorf("%d values came, %d holes; %+v, before %+v", got, holes, s, st.Targets[0])
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = mustOpen(t, opt)
	wantRange(t, h, "quiet", 0, 50)
	check()
	if s := h.Stats(); s.Targets[0].Lost != holes || s.Overwritten != st.Overwritten || s.Values != st.Values || s.Damaged != 0 {
		t.Errorf("after a restart %+v, before %+v", s, st)
	}
}

// TestDeviceQuota: a device keeps its newest values within its own limit.
func TestDeviceQuota(t *testing.T) {
	opt := testOptions(t.TempDir())
	opt.MaxBytes, opt.DeviceBytes = 8<<20, 256<<10
	h := mustOpen(t, opt)
	for i := 0; i < 200_000; i += 2000 {
		record(h, "a", i, i+2000)
		record(h, "b", i/100, i/100+20)
		mustFlush(t, h)
	}
	wantRange(t, h, "b", 0, 2000)
	got, err := h.Range("plant", "a", "speed", time.Time{}, time.Time{}, 0)
	if err != nil || got[len(got)-1].Value.AsInt() != 199_999 {
		t.Fatal(err)
	}
	if n := h.devices[deviceKey{"plant", "a"}].live; n > opt.DeviceBytes+h.segSize {
		t.Errorf("a device holds %d bytes, %d are allowed", n, opt.DeviceBytes)
	}
}

// TestLimit: what may wait for the disk follows the limit, and what waits already stays.
func TestLimit(t *testing.T) {
	h := mustOpen(t, testOptions(t.TempDir()))
	h.Limit(3)
	record(h, "a", 0, 5)
	if s := h.Stats(); s.Queued != 3 || s.DroppedFull != 2 {
		t.Errorf("%d values wait and %d are dropped, want 3 and 2", s.Queued, s.DroppedFull)
	}
	h.Limit(1)
	record(h, "a", 5, 6)
	h.Limit(5)
	record(h, "a", 6, 9)
	if s := h.Stats(); s.Queued != 5 || s.DroppedFull != 4 {
		t.Errorf("%d values wait and %d are dropped, want 5 and 4", s.Queued, s.DroppedFull)
	}
}
