package cutlog_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/skerry/skerry/hil-tests/cutlog"
)

const size = 64 << 10

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// sector returns one that says which it is.
func sector(n byte) []byte { return bytes.Repeat([]byte{n}, cutlog.SectorSize) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *cutlog.State) []byte {
	t.Helper()
	b := make([]byte, s.Size())
	n, err := s.ReadAt(b, 0)
	if n != len(b) {
		t.Fatalf("%d bytes of %d are read: %v", n, len(b), err)
	}
	return b
}

// story writes three sectors, flushes, and writes over two of them.
func story(t *testing.T) (before []byte, log *cutlog.Log) {
	t.Helper()
	before = bytes.Repeat([]byte{0xee}, size)
	r := cutlog.NewRecorder(bytes.Clone(before))
	write := func(at int64, parts ...[]byte) {
		_, err := r.WriteAt(bytes.Join(parts, nil), at*cutlog.SectorSize)
		must(t, err)
	}
	write(1, sector(1), sector(2), sector(3))
	must(t, r.Sync())
	write(2, sector(4))
	write(1, sector(5), sector(6))
	log, err := r.Log()
	must(t, err)
	return before, log
}

func TestWhatIsFlushedStays(t *testing.T) {
	before, log := story(t)
	for _, c := range []struct {
		name string
		n    int
		mode cutlog.Mode
		want [][]byte // possible first bytes of sectors 0 to 3
	}{
		{"nothing written", 0, cutlog.All, [][]byte{{0xee, 0xee, 0xee, 0xee}}},
		{"not flushed, lost", 1, cutlog.None, [][]byte{{0xee, 0xee, 0xee, 0xee}}},
		{"not flushed, kept", 1, cutlog.All, [][]byte{{0xee, 1, 2, 3}}},
		{"not flushed, a write is kept or not", 1, cutlog.Some, [][]byte{{0xee, 0xee, 0xee, 0xee}, {0xee, 1, 2, 3}}},
		{"torn has its beginning", 1, cutlog.Torn, [][]byte{{0xee, 0xee, 0xee, 0xee}, {0xee, 1, 0xee, 0xee}, {0xee, 1, 2, 0xee}, {0xee, 1, 2, 3}}},
		{"flushed", 2, cutlog.None, [][]byte{{0xee, 1, 2, 3}}},
		{"flushed, all after it lost", 4, cutlog.None, [][]byte{{0xee, 1, 2, 3}}},
		{"all", 4, cutlog.All, [][]byte{{0xee, 5, 6, 3}}},
		{"some, in their order", 4, cutlog.Some, [][]byte{{0xee, 1, 2, 3}, {0xee, 1, 4, 3}, {0xee, 5, 6, 3}}},
		{"the last one torn", 4, cutlog.Torn, [][]byte{{0xee, 1, 4, 3}, {0xee, 5, 4, 3}, {0xee, 5, 6, 3}}},
		{"some sectors", 4, cutlog.Sectors, [][]byte{{0xee, 1, 2, 3}, {0xee, 1, 4, 3}, {0xee, 1, 6, 3}, {0xee, 5, 2, 3}, {0xee, 5, 4, 3}, {0xee, 5, 6, 3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make([]bool, len(c.want))
			for seed := range uint64(200) {
				d, err := cutlog.NewDisk(bytes.NewReader(before), size, log)
				must(t, err)
				b := read(t, d.Cut(c.n, c.mode, rng(seed)))
				got := []byte{b[0], b[1*cutlog.SectorSize], b[2*cutlog.SectorSize], b[3*cutlog.SectorSize]}
				i := slices.IndexFunc(c.want, func(w []byte) bool { return bytes.Equal(w, got) })
				if i < 0 {
					t.Fatalf("seed %d leaves %x", seed, got)
				}
				seen[i] = true
				if !bytes.Equal(b[4*cutlog.SectorSize:], before[4*cutlog.SectorSize:]) {
					t.Fatalf("seed %d changes sectors that nobody wrote to", seed)
				}
			}
			if slices.Contains(seen, false) {
				t.Errorf("of %x came %v in 200 seeds", c.want, seen)
			}
		})
	}
}

// TestNoise: sectors that were not flushed hold what they held, what was written, or neither; those that were are safe.
func TestNoise(t *testing.T) {
	before, log := story(t)
	seen := map[string]bool{}
	for seed := range uint64(50) {
		d, err := cutlog.NewDisk(bytes.NewReader(before), size, log)
		must(t, err)
		b := read(t, d.Cut(3, cutlog.Noise, rng(seed))) // sector 2 was written and not flushed
		at := func(i int) []byte { return b[i*cutlog.SectorSize:][:cutlog.SectorSize] }
		switch {
		case bytes.Equal(at(2), sector(2)):
			seen["old"] = true
		case bytes.Equal(at(2), sector(4)):
			seen["new"] = true
		default:
			seen["neither"] = true
		}
		if !bytes.Equal(at(1), sector(1)) || !bytes.Equal(at(3), sector(3)) {
			t.Fatalf("seed %d: what was flushed is damaged", seed)
		}
	}
	if len(seen) != 3 {
		t.Errorf("only %v in 50 seeds", seen)
	}
}

// TestCutsGoOn: cuts one after the other of one disk are those of disks of their own, and a seed gives the same state again.
func TestCutsGoOn(t *testing.T) {
	before, log := story(t)
	one, err := cutlog.NewDisk(bytes.NewReader(before), size, log)
	must(t, err)
	prints := map[uint64][]byte{}
	for n := range len(log.Entries) + 1 {
		for mode := range cutlog.Modes {
			s := one.Cut(n, mode, rng(9))
			got := read(t, s)
			if was, ok := prints[s.Fingerprint(0, size)]; ok && !bytes.Equal(was, got) {
				t.Fatalf("%d entries, %v: the fingerprint is that of another content", n, mode)
			}
			prints[s.Fingerprint(0, size)] = got
			other, err := cutlog.NewDisk(bytes.NewReader(before), size, log)
			must(t, err)
			if !bytes.Equal(got, read(t, other.Cut(n, mode, rng(9)))) {
				t.Fatalf("%d entries, %v: not the same twice", n, mode)
			}
			applied := memory(bytes.Clone(before))
			must(t, s.Apply(applied))
			if !bytes.Equal(got, applied) {
				t.Fatalf("%d entries, %v: Apply writes something else than ReadAt reads", n, mode)
			}
		}
	}
	if len(prints) < 6 {
		t.Errorf("only %d states", len(prints))
	}
}

type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

// TestLogOfQEMU: testdata/qemu.log is what QEMU 7.2 notes of: write 4 KiB of 01 at 0, flush, write 4 KiB of zeros at 4 KiB, write 512 bytes of 02 at 8 KiB with
// FUA (which it does by a flush), end (which flushes).
func TestLogOfQEMU(t *testing.T) {
	b, err := os.ReadFile("testdata/qemu.log")
	must(t, err)
	log, err := cutlog.Read(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	var got [][3]int64
	for _, e := range log.Entries {
		got = append(got, [3]int64{e.Start, e.Count, int64(e.Flags)})
	}
	want := [][3]int64{{0, 8, 0}, {0, 0, int64(cutlog.Flush)}, {8, 8, 0}, {16, 1, 0}, {0, 0, int64(cutlog.Flush)}, {0, 0, int64(cutlog.Flush)}}
	if !slices.Equal(got, want) {
		t.Fatalf("entries %v, want %v", got, want)
	}
	before := bytes.Repeat([]byte{0xee}, size)
	d, err := cutlog.NewDisk(bytes.NewReader(before), size, log)
	must(t, err)
	state := read(t, d.Cut(5, cutlog.None, rng(1)))
	for at, want := range map[int]byte{0: 1, 4095: 1, 4096: 0, 8191: 0, 8192: 2, 8703: 2, 8704: 0xee} {
		if state[at] != want {
			t.Errorf("byte %d is %#x, want %#x", at, state[at], want)
		}
	}
}

// TestFlagsOfEntries: what QEMU's machines do not send: a flush together with a write, a write that is on the medium at once, sectors given up, and text.
func TestFlagsOfEntries(t *testing.T) {
	b, err := os.ReadFile("testdata/qemu.log")
	must(t, err)
	// The first five entries, by their offsets, become: write, write with flush before and itself for sure, discard, text; the fifth stays a flush.
	const second, third, fourth = 512 + 512 + 4096, 512 + 512 + 4096 + 512, 512 + 512 + 4096 + 512 + 512 + 4096
	b[third+16] = byte(cutlog.Flush | cutlog.FUA)
	b[fourth+16] = byte(cutlog.Mark)
	b = slices.Delete(b, fourth+512, fourth+1024) // text has no data
	log, err := cutlog.Read(bytes.NewReader(b), int64(len(b)))
	must(t, err)
	if e := log.Entries[3]; e.Writes() || e.Flags != cutlog.Mark {
		t.Errorf("text is %+v", e)
	}
	b[second+16] = byte(cutlog.Discard)
	b[second] = 1 // from sector 1 on
	b[second+8] = 1
	if log, err = cutlog.Read(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	d, err := cutlog.NewDisk(bytes.NewReader(bytes.Repeat([]byte{0xee}, size)), size, log)
	must(t, err)
	state := read(t, d.Cut(3, cutlog.None, rng(1)))
	for at, want := range map[int]byte{0: 1, 511: 1, 512: 0, 1023: 0, 1024: 1, 4096: 0, 8191: 0, 8192: 0xee} {
		if state[at] != want {
			t.Errorf("byte %d is %#x, want %#x", at, state[at], want)
		}
	}
}

func TestDamagedLogs(t *testing.T) {
	good, err := os.ReadFile("testdata/qemu.log")
	must(t, err)
	for name, change := range map[string]func(b []byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"cut short":       func(b []byte) []byte { return b[:3000] },
		"no magic":        func(b []byte) []byte { b[0]++; return b },
		"another version": func(b []byte) []byte { b[8]++; return b },
		"too many":        func(b []byte) []byte { b[20] = 1; return b },
		"odd sectors":     func(b []byte) []byte { b[24] = 1; return b },
		"far away":        func(b []byte) []byte { b[512+7] = 0xff; return b },
	} {
		b := change(bytes.Clone(good))
		if _, err := cutlog.Read(bytes.NewReader(b), int64(len(b))); !errors.Is(err, cutlog.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	log, err := cutlog.Read(bytes.NewReader(good), int64(len(good)))
	must(t, err)
	if _, err := cutlog.NewDisk(bytes.NewReader(nil), 4096, log); err == nil {
		t.Error("a log of a larger disk is taken")
	}
}

func FuzzRead(f *testing.F) {
	b, err := os.ReadFile("testdata/qemu.log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:1024])
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := cutlog.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		d, err := cutlog.NewDisk(bytes.NewReader(make([]byte, size)), size, log)
		if err != nil {
			return
		}
		// What Read has taken can be read.
		state := make([]byte, size)
		if n, err := d.Cut(len(log.Entries), cutlog.Sectors, rng(1)).ReadAt(state, 0); n != size {
			t.Fatalf("%d bytes: %v", n, err)
		}
	})
}
