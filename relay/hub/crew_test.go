package hub

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// task is a job that takes a while, or waits until it is told to go on.
type task struct {
	takes   time.Duration
	release chan struct{}
	waiting atomic.Bool
	ran     func()
}

func (t *task) run() {
	if t.release != nil {
		t.waiting.Store(true)
		<-t.release
		t.waiting.Store(false)
	}
	time.Sleep(t.takes)
	t.ran()
}

func (t *task) stuck() bool { return t.waiting.Load() }

// TestStuckJobsDelayNobody: a hundred jobs wait for ever, and the thousand behind them run, no more than the limit at once.
func TestStuckJobsDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew()
		c.limit = 4
		var mu sync.Mutex
		ran := 0
		count := func() { mu.Lock(); ran++; mu.Unlock() }
		release := make(chan struct{})
		for range 100 {
			c.put(&task{release: release, ran: count})
		}
		for range 1000 {
			c.put(&task{takes: time.Millisecond, ran: count})
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		if ran != 1000 {
			t.Errorf("%d of 1000 jobs ran beside 100 that are stuck", ran)
		}
		mu.Unlock()
		c.mu.Lock()
		if c.spawned > 100+2*c.limit || len(c.workers) > c.limit || c.watching {
			t.Errorf("%d workers were made for 100 stuck jobs, %d are left, watching %v", c.spawned, len(c.workers), c.watching)
		}
		c.mu.Unlock()
		close(release)
		c.wait()
		if ran != 1100 || len(c.workers) != 0 {
			t.Errorf("%d jobs ran in all, %d workers are left", ran, len(c.workers))
		}
	})
}

// TestCrewIsBounded: ten thousand jobs at once take no more goroutines than the limit.
func TestCrewIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew()
		var running, most, ran atomic.Int64
		for range 10_000 {
			c.put(&task{ran: func() {
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(time.Microsecond)
				running.Add(-1)
				ran.Add(1)
			}})
		}
		c.wait()
		if most.Load() > int64(c.limit) || ran.Load() != 10_000 || c.spawned > 10_000/10 {
			t.Errorf("%d jobs ran, %d at once, on %d workers", ran.Load(), most.Load(), c.spawned)
		}
	})
}

func TestKeySet(t *testing.T) {
	for _, n := range []int{0, 1, fewKeys, fewKeys + 1, 500} {
		var s keySet
		var want []wire.Key
		for i := range n {
			k := wire.NewKey(wire.KindConfigMap, "default", fmt.Sprintf("c%03d", i), "")
			want = append(want, k)
			s.add(k)
			s.add(want[0])
			s.add(k)
		}
		got := s.take()
		slices.Sort(got)
		if !slices.Equal(got, want) || len(s.take()) != 0 {
			t.Errorf("%d keys: %v", n, got)
		}
	}
}
