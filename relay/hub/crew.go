package hub

import (
	"runtime"
	"sync"
	"time"
)

// A change to an object that ten thousand agents hold makes ten thousand sessions have something to do at once. With a goroutine
// for each they would all take memory and turns, and the last would be as late as all together. So a few workers go from one
// session to the next. A session whose agent takes nothing of what is written to it keeps its worker, and another one takes the
// worker's place: slow agents delay nobody.

// job is what a crew works at.
type job interface {
	run()
	stuck() bool // run waits for something other than a processor
}

// crew runs jobs on a bounded number of goroutines, those that are stuck not counted. Safe for concurrent use.
type crew struct {
	limit int

	mu       sync.Mutex
	queue    []job
	head     int // of queue
	workers  map[*worker]struct{}
	watching bool
	spawned  int // workers so far
	all      sync.WaitGroup
}

type worker struct {
	at       job // that it runs
	replaced bool
}

func newCrew() *crew {
	return &crew{limit: 4 * runtime.GOMAXPROCS(0), workers: make(map[*worker]struct{})}
}

// put has j run soon. The caller sees to it that it is put again only after run has begun to return.
func (c *crew) put(j job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, j)
	if len(c.workers) < c.limit {
		c.spawn()
	} else if !c.watching {
		c.watching = true
		c.all.Go(c.watch)
	}
}

// spawn adds a worker. The caller holds mu.
func (c *crew) spawn() {
	w := &worker{}
	c.workers[w] = struct{}{}
	c.spawned++
	c.all.Go(func() { c.work(w) })
}

func (c *crew) work(w *worker) {
	for j := c.next(w); j != nil; j = c.next(w) {
		j.run()
	}
}

// next returns w's next job, nil if it is not needed any more.
func (c *crew) next(w *worker) job {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.at = nil
	if w.replaced {
		return nil
	}
	if c.head == len(c.queue) {
		delete(c.workers, w)
		c.queue, c.head = nil, 0
		return nil
	}
	w.at = c.queue[c.head]
	c.queue[c.head] = nil
	c.head++
	return w.at
}

// watch replaces workers that are stuck while there is something to do.
func (c *crew) watch() {
	t := time.NewTicker(stuckAfter / 2)
	defer t.Stop()
	for range t.C {
		if !c.relieve() {
			return
		}
	}
}

func (c *crew) relieve() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head == len(c.queue) {
		c.watching = false
		return false
	}
	for w := range c.workers {
		if w.at != nil && w.at.stuck() {
			delete(c.workers, w)
			w.replaced = true
			c.spawn()
		}
	}
	return true
}

// backlog returns how many jobs wait for a worker.
func (c *crew) backlog() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) - c.head
}

// wait returns when all jobs are done.
func (c *crew) wait() { c.all.Wait() }
