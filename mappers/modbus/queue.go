package modbus

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// transaction is one request on its way through an endpoint. The caller fills it in, pushes it and waits for done; until then
// it belongs to the endpoint. A caller that cannot wait sets left and never touches it again.
type transaction struct {
	ctx     context.Context // the caller's: a transaction nobody waits for any more is not sent
	cfg     *config
	request *request
	class   class
	burst   []*request   // to send one after the other, request first; nil: only that
	until   time.Time    // the burst ends before what would go out later
	carried atomic.Int32 // how many requests have been carried out
	left    atomic.Bool
	done    chan struct{} // buffered; afterwards data and err are the caller's
	reply   [maxPDU]byte
	data    []byte // of the reply, within reply
	err     error

	// The rest is the owner's.
	id       uint16 // on TCP
	deadline time.Time
	reused   bool // it went out on a connection that may have been closed while it was idle
	asked    bool // the request has gone out, or some of it
	again    bool // it has been sent anew because a connection broke that others or idleness broke
	tries    int  // that were lost on the way
	next     *transaction
}

func (t *transaction) finish(err error) {
	t.err = err
	t.done <- struct{}{}
}

// begin starts the unit's time, of which the caller may leave less.
func (t *transaction) begin(now time.Time) {
	t.deadline = now.Add(t.cfg.timeout)
	if d, ok := t.ctx.Deadline(); ok && d.Before(t.deadline) {
		t.deadline = d
	}
}

// gone tells that nobody waits for the answer.
func (t *transaction) gone() bool { return t.left.Load() || t.ctx.Err() != nil }

// list is a queue of transactions, which costs no allocation.
type list struct{ head, tail *transaction }

func (l *list) push(t *transaction) {
	t.next = nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
}

func (l *list) pushFront(t *transaction) {
	t.next = l.head
	l.head = t
	if l.tail == nil {
		l.tail = t
	}
}

func (l *list) pop() *transaction {
	t := l.head
	if t == nil {
		return nil
	}
	if l.head = t.next; l.head == nil {
		l.tail = nil
	}
	t.next = nil
	return t
}

// class is which transactions go ahead of others.
type class uint8

const (
	classWrite class = iota
	classReadBack
	classRead
	classes
)

// queue hands transactions to the owner of an endpoint: writes first, then what reads them back, then all else, each class in the
// order of arrival. Its length is bounded by the callers, who wait for each answer.
type queue struct {
	mu    sync.Mutex
	lists [classes]list
	wake  chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(t *transaction) {
	q.mu.Lock()
	q.lists[t.class].push(t)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// putBack makes t the next of its class; only the owner calls it.
func (q *queue) putBack(t *transaction) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lists[t.class].pushFront(t)
}

// pop returns the next transaction, nil if there is none.
func (q *queue) pop() *transaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.lists {
		if t := q.lists[i].pop(); t != nil {
			return t
		}
	}
	return nil
}
