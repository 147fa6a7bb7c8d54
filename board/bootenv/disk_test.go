package bootenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const sector = 32 // so small that the variables of one copy are spread over several

// medium is a disk that may lose what was not synced: sectors go in any subset, and whole.
type medium struct {
	cached, durable []byte
	pending         map[int]bool // sectors that were written since the last sync
	onWrite         func()       // after each sector that was written, and each sync
	writeErr        error
	readBackWrong   bool
}

func newMedium(content []byte) *medium {
	return &medium{cached: bytes.Clone(content), durable: bytes.Clone(content), pending: map[int]bool{}, onWrite: func() {}}
}

func (m *medium) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, m.cached[off:])
	if m.readBackWrong {
		p[n/2] ^= 1
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *medium) WriteAt(p []byte, off int64) (int, error) {
	if m.writeErr != nil {
		return 0, m.writeErr
	}
	for i := 0; i < len(p); i += sector {
		at := int(off) + i
		copy(m.cached[at:], p[i:min(i+sector, len(p))])
		m.pending[at/sector] = true
		m.onWrite()
	}
	return len(p), nil
}

func (m *medium) Sync() error {
	m.onWrite()
	copy(m.durable, m.cached)
	clear(m.pending)
	m.onWrite()
	return nil
}

func (m *medium) Forget() error { return nil }

// after returns what is on the medium if the power fails now and only those pending sectors were written that keep names.
func (m *medium) after(keep func(i int) bool) []byte {
	out := bytes.Clone(m.durable)
	i := 0
	for s := range len(m.cached) / sector {
		if !m.pending[s] {
			continue
		}
		if keep(i) {
			copy(out[s*sector:(s+1)*sector], m.cached[s*sector:])
		}
		i++
	}
	return out
}

const small = 6 * sector // a block small enough for all subsets of its sectors

// TestPowerCut cuts the power after every sector written and every sync of an update, with every subset of the sectors that were not synced on the medium: one copy is whole
// each time, and what is read is the state before or the state after.
func TestPowerCut(t *testing.T) {
	before := Env{Seq: 7, Order: [2]Slot{A, B}, Left: map[Slot]int{A: 3, B: 0}, Confirmed: A}
	for _, start := range []struct {
		name  string
		spoil [2]bool
		stale [2]bool // holds the state before the last one
	}{
		{name: "both whole"},
		{name: "copy 0 damaged", spoil: [2]bool{true, false}},
		{name: "copy 1 damaged", spoil: [2]bool{false, true}},
		{name: "copy 0 stale", stale: [2]bool{true, false}},
		{name: "copy 1 stale", stale: [2]bool{false, true}},
	} {
		t.Run(start.name, func(t *testing.T) {
			content, err := before.Encode(small)
			if err != nil {
				t.Fatal(err)
			}
			earlier := Env{Seq: 6, Order: [2]Slot{A, B}, Left: map[Slot]int{A: 1, B: 2}, Confirmed: A}
			old, err := earlier.Encode(small)
			if err != nil {
				t.Fatal(err)
			}
			var m [2]*medium
			for i := range m {
				m[i] = newMedium(content)
				if start.spoil[i] {
					m[i] = newMedium(make([]byte, small))
				}
				if start.stale[i] {
					m[i] = newMedium(old)
				}
			}
			after := before.clone()
			after.SetPrimary(B)
			after.Seq++
			cuts, news := 0, 0
			cut := func() {
				for subset := range 1 << (len(m[0].pending) + len(m[1].pending)) {
					first := len(m[0].pending)
					left := New([2]Copy{
						newMedium(m[0].after(func(i int) bool { return subset>>i&1 == 1 })),
						newMedium(m[1].after(func(i int) bool { return subset>>(first+i)&1 == 1 })),
					}, small)
					e, c := left.Read()
					cuts++
					switch {
					case c.Lost():
						t.Fatalf("cut %d, subset %b: both copies are damaged: %v", cuts, subset, c.Problems)
					case e.Equal(after):
						news++
					case !e.Equal(before):
						t.Fatalf("cut %d, subset %b: read %+v, want the state before or after", cuts, subset, e)
					}
				}
			}
			m[0].onWrite, m[1].onWrite = cut, cut
			got, err := New([2]Copy{m[0], m[1]}, small).Update(func(e *Env) error { e.SetPrimary(B); return nil })
			if err != nil || !got.Equal(after) {
				t.Fatalf("update gives %+v, %v, want %+v", got, err, after)
			}
			if cuts < 50 || news == 0 || news == cuts {
				t.Errorf("%d cuts, of which %d left the new state: the test tests nothing", cuts, news)
			}
		})
	}
}

func TestDamagedCopies(t *testing.T) {
	m := [2]*medium{newMedium(make([]byte, Size)), newMedium(bytes.Repeat([]byte{0xff}, Size))}
	d := New([2]Copy{m[0], m[1]}, Size)
	e, c := d.Read()
	if !e.Equal(Default()) || !c.Lost() || !errors.Is(c.Problems[0], ErrDamaged) {
		t.Fatalf("two damaged copies read as %+v, %+v", e, c)
	}
	if _, err := d.Update(func(e *Env) error { e.Confirm(B); return nil }); err != nil {
		t.Fatal(err)
	}
	e, c = d.Read()
	if c.Lost() || c.Stale || c.Problems != [2]error{} || e.Confirmed != B || e.Seq != 1 {
		t.Errorf("after the repair: %+v, %+v", e, c)
	}
}

// TestOneCopyBreaks: copy 0 counts. If it is the other one that cannot be written, the only copy that is known to be whole is not touched.
func TestOneCopyBreaks(t *testing.T) {
	for i := range 2 {
		for name, breaks := range map[string]func(*medium){
			"write fails":     func(m *medium) { m.writeErr = errors.New("input/output error") },
			"reads are wrong": func(m *medium) { m.readBackWrong = true },
		} {
			t.Run(fmt.Sprintf("copy %d, %s", i, name), func(t *testing.T) {
				before := Env{Seq: 3, Order: [2]Slot{A, B}, Left: map[Slot]int{A: 3, B: 3}}
				m := [2]*medium{newMedium(mustEncode(t, before)), newMedium(mustEncode(t, before))}
				if i == 0 {
					m[1] = newMedium(make([]byte, Size)) // so that copy 0 counts while it breaks
				} else {
					breaks(m[i])
				}
				writes := 0
				m[0].onWrite = func() {
					if writes++; i == 0 {
						breaks(m[0])
					}
				}
				d := New([2]Copy{m[0], m[1]}, Size)
				_, err := d.Update(func(e *Env) error { e.SetPrimary(B); return nil })
				if i == 0 {
					m[0].readBackWrong = false
					if e, _ := d.Read(); err != nil || e.Seq != 4 || e.Order[0] != B {
						t.Errorf("%v, and read %+v, want the new state from the copy that works", err, e)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), "copy 1 of the boot environment") || !strings.Contains(err.Error(), "copy 0 is left as it is") || writes != 0 {
					t.Errorf("%v, and %d writes to the copy that counts", err, writes)
				}
				if e, _ := New([2]Copy{m[0], newMedium(make([]byte, Size))}, Size).Read(); !e.Equal(before) {
					t.Errorf("read %+v, want the state before", e)
				}
			})
		}
	}
	broken := func() *medium {
		m := newMedium(make([]byte, Size))
		m.writeErr = errors.New("input/output error")
		return m
	}
	for i := range 2 { // both damaged, and one cannot be mended: there is nothing to lose
		m := [2]*medium{newMedium(make([]byte, Size)), newMedium(make([]byte, Size))}
		m[i] = broken()
		d := New([2]Copy{m[0], m[1]}, Size)
		if _, err := d.Update(func(e *Env) error { e.SetPrimary(B); return nil }); err != nil {
			t.Error(err)
		}
		if e, _ := d.Read(); e.Order[0] != B {
			t.Errorf("read %+v", e)
		}
	}
	if _, err := New([2]Copy{broken(), broken()}, Size).Update(func(*Env) error { return nil }); err == nil {
		t.Error("no copy could be written, and nobody says so")
	}
}

func TestOpenFiles(t *testing.T) {
	dir := t.TempDir()
	paths := [2]string{filepath.Join(dir, "env-a"), filepath.Join(dir, "env-b")}
	if _, err := Open(paths); err == nil {
		t.Fatal("partitions that are not there were opened")
	}
	for _, p := range paths {
		if err := os.WriteFile(p, make([]byte, Size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const each = 20
	done := make(chan error)
	for range 2 { // as RAUC's back end and the agent
		go func() {
			var failed error
			for range each {
				d, err := Open(paths)
				if err != nil {
					failed = err
					break
				}
				_, err = d.Update(func(e *Env) error { e.Confirm(A); return nil })
				failed = errors.Join(failed, err, d.Close())
			}
			done <- failed
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(paths)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing was written
	if e, c := d.Read(); e.Seq != 2*each || c.Stale || c.Lost() {
		t.Errorf("after %d updates of two writers: %+v, %+v", 2*each, e, c)
	}
}
