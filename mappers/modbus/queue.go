package modbus

import (
	"context"
	"sync"
	"time"
)

// transaction is one request on its way through an endpoint.
type transaction struct {
	ctx     context.Context // the caller's: a transaction nobody waits for any more is not sent
	unit    byte
	request *request
	timeout time.Duration
	urgent  bool
	done    chan answer // buffered
}

// answer is the data of a reply, or why there is none.
type answer struct {
	data []byte
	err  error
}

// queue hands transactions to the owner of an endpoint: urgent ones (writes and their read-back) first, each class in the
// order of arrival. Its length is bounded by the callers, who wait for each answer.
type queue struct {
	mu     sync.Mutex
	urgent []*transaction
	normal []*transaction
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(t *transaction) {
	q.mu.Lock()
	if t.urgent {
		q.urgent = append(q.urgent, t)
	} else {
		q.normal = append(q.normal, t)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop returns the next transaction, nil if there is none.
func (q *queue) pop() *transaction {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := &q.urgent
	if len(*list) == 0 {
		list = &q.normal
	}
	if len(*list) == 0 {
		return nil
	}
	t := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return t
}
