package devices

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// task identifies what a worker is woken for. Values from taskGroup on are collect groups.
type task int

const (
	taskRetry     task = iota // a failed write, or opening the session again
	taskDeadline              // a driver call may have wedged
	taskFlush                 // lazily persisted values
	taskAlarm                 // the delay of an alarm
	taskReport                // changes that wait for the shortest time between two reports
	taskSubscribe             // a subscription that ended
	taskGroup
)

// entry is one pending wake-up.
type entry struct {
	at     time.Time
	period time.Duration // 0: once
	owner  *worker
	task   task
	index  int
}

// scheduler wakes workers: one goroutine and one timer for all devices. Periodic entries keep their phase; instants that
// were missed are skipped, not made up for. All methods may be called concurrently.
type scheduler struct {
	mu      sync.Mutex
	queue   entryHeap
	byTask  map[*worker]map[task]*entry
	changed chan struct{} // the earliest instant may have changed
	alive   func()        // nil: nobody watches
	slow    int           // of each slow reads that are due, one is made; 0 is 1
}

func newScheduler() *scheduler {
	return &scheduler{byTask: make(map[*worker]map[task]*entry), changed: make(chan struct{}, 1)}
}

// set arms a task, replacing what was armed for it.
func (s *scheduler) set(w *worker, t task, at time.Time, period time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tasks := s.byTask[w]
	if tasks == nil {
		tasks = make(map[task]*entry)
		s.byTask[w] = tasks
	}
	if e := tasks[t]; e != nil {
		e.at, e.period = at, period
		heap.Fix(&s.queue, e.index)
	} else {
		e = &entry{at: at, period: period, owner: w, task: t}
		tasks[t] = e
		heap.Push(&s.queue, e)
	}
	if s.queue[0].owner == w {
		s.kick()
	}
}

// clear disarms a task.
func (s *scheduler) clear(w *worker, t task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byTask[w][t]; e != nil {
		heap.Remove(&s.queue, e.index)
		delete(s.byTask[w], t)
	}
}

// drop disarms all of a worker's tasks.
func (s *scheduler) drop(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.byTask[w] {
		heap.Remove(&s.queue, e.index)
	}
	delete(s.byTask, w)
}

// stretch makes reads happen at every factor-th instant only, from the next one on.
func (s *scheduler) stretch(factor int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = factor
}

func (s *scheduler) kick() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// roundAtLeast is how often loops go round whose life is watched.
const roundAtLeast = 15 * time.Second

// run wakes workers until ctx ends.
func (s *scheduler) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := s.fire(time.Now())
		if s.alive != nil {
			s.alive()
			wait = min(wait, roundAtLeast)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-timer.C:
		}
	}
}

// fire wakes the owners of all entries that are due and returns how long to wait for the next.
func (s *scheduler) fire(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		e := s.queue[0]
		if wait := e.at.Sub(now); wait > 0 {
			return wait
		}
		e.owner.due(e.task)
		if e.period <= 0 {
			heap.Pop(&s.queue)
			delete(s.byTask[e.owner], e.task)
			continue
		}
		steps := now.Sub(e.at)/e.period + 1 // what was missed, and one
		if e.task >= taskGroup {
			steps = max(steps, time.Duration(s.slow))
		}
		e.at = e.at.Add(steps * e.period)
		heap.Fix(&s.queue, 0)
	}
	return time.Hour
}

// entryHeap is ordered by time.
type entryHeap []*entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h entryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *entryHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *entryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
