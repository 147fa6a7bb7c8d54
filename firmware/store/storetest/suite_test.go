package storetest

import (
	"testing"

	"github.com/skerry/skerry/firmware/wire"
)

// modelSubject puts a Model under the suite.
type modelSubject struct {
	m   *Model
	err error
}

func (s *modelSubject) Open(*testing.T) (Desired, Outbox) { s.m.Open(); return s.m, s.m }

func (s *modelSubject) Dropped() uint64 { _, n := s.m.Level(); return n }

func (s *modelSubject) Crash(*testing.T) { s.m.Crash(false) }

func (s *modelSubject) Window(*testing.T) { s.m.FlushLazy() }

func (s *modelSubject) Fail(err error) { s.err = err }

func TestModel(t *testing.T) {
	Run(t, func(_ *testing.T, limits Limits) Subject {
		s := &modelSubject{m: NewModel(limits)}
		s.m.Fail = func() error { return s.err }
		return s
	})
}

// TestModelBetweenBeginAndFinish: a commit that was being synced is there after a crash, or not, and whole in either case.
func TestModelBetweenBeginAndFinish(t *testing.T) {
	for _, kept := range []bool{false, true} {
		m := NewModel(Limits{})
		c := wire.Commit{ID: 1, Rules: 1, Put: []wire.Object{Object(cfgKey, "c", "one", 5), Object(podKey, "u1", "pod", 7)}}
		if err := m.Begin(c); err != nil {
			t.Fatal(err)
		}
		if len(m.Keys()) != 0 {
			t.Fatal("a commit is visible before it is durable")
		}
		m.Crash(kept)
		m.Open()
		if want := map[bool]int{false: 0, true: 2}[kept]; len(m.Keys()) != want {
			t.Fatalf("kept %v: %d objects after the crash", kept, len(m.Keys()))
		}
	}
}
