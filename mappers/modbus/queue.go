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
	urgent  bool
	left    atomic.Bool
	done    chan struct{} // buffered; afterwards data and err are the caller's
	reply   [maxPDU]byte
	data    []byte // of the reply, within reply
	err     error

	// The rest is the owner's.
	id       uint16 // on TCP
	deadline time.Time
	reused   bool // it went out on a connection that may have been closed while it was idle
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

// queue hands transactions to the owner of an endpoint: urgent ones (writes and their read-back) first, each class in the
// order of arrival. Its length is bounded by the callers, who wait for each answer.
type queue struct {
	mu     sync.Mutex
	urgent list
	normal list
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) of(t *transaction) *list {
	if t.urgent {
		return &q.urgent
	}
	return &q.normal
}

func (q *queue) push(t *transaction) {
	q.mu.Lock()
	q.of(t).push(t)
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
	q.of(t).pushFront(t)
}

// pop returns the next transaction, nil if there is none.
func (q *queue) pop() *transaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.urgent.pop(); t != nil {
		return t
	}
	return q.normal.pop()
}
