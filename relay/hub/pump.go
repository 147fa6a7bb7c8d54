package hub

import (
	"context"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub/socket"
	"github.com/skerry/skerry/relay/session"
)

// queue is what an agent's pump has to do. Its lock is never held while anything else is called.
type queue struct {
	mu      sync.Mutex
	in      []*[]byte // messages that the machine has not seen
	actions []session.Action
	dirty   keySet    // each once, however often it changes while a slow agent is written to
	streams bool      // streams may have something to send
	owed    int       // weight of the messages that are not answered yet
	room    sync.Cond // of mu: owed or borrowed has become less, or pumping false
	pumping bool
	done    bool

	borrowed int // goroutines that work for the session
	ctx      context.Context
	cancel   context.CancelFunc // of ctx; both exist while something is borrowed
}

// Reading stops while so much is owed: an agent that sends and does not take answers waits for itself. A message weighs its
// bytes and frameWeight, for what an empty one costs.
const (
	maxOwed     = 1 << 20
	frameWeight = 512
)

// finish lets nothing begin any more, and waits for what has begun.
func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done = true
	if q.cancel != nil {
		q.cancel()
	}
	for q.borrowed > 0 || q.pumping {
		q.room.Wait()
	}
}

// notify marks a key dirty. The Source may hold its locks.
func (a *agent) notify(k wire.Key) {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	if !a.q.done {
		a.q.dirty.add(k)
		a.wakeLocked()
	}
}

// wakeLocked has the pump run unless it does. The caller holds q.mu.
func (a *agent) wakeLocked() {
	if a.q.pumping || a.q.done {
		return
	}
	a.q.pumping = true
	a.h.crew.put(a)
}

// borrow runs fn in a goroutine that end waits for; its context ends with the session. An idle session has neither.
func (a *agent) borrow(fn func(context.Context)) {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	if a.q.done {
		return
	}
	if a.q.borrowed++; a.q.ctx == nil {
		a.q.ctx, a.q.cancel = context.WithCancel(a.h.work)
	}
	ctx := a.q.ctx
	go func() { // waited for by queue.finish
		fn(ctx)
		a.q.mu.Lock()
		defer a.q.mu.Unlock()
		if a.q.borrowed--; a.q.borrowed == 0 {
			a.q.cancel()
			a.q.ctx, a.q.cancel = nil, nil
		}
		a.q.room.Broadcast()
	}()
}

// deliver hands a message to the pump, and waits until little enough is owed to read on.
func (a *agent) deliver(buf *[]byte) {
	a.q.mu.Lock()
	a.q.in = append(a.q.in, buf)
	a.q.owed += len(*buf) + frameWeight
	a.wakeLocked()
	a.q.mu.Unlock()
	if a.stuck() {
		a.receive() // the pump waits for the agent to take something: that it lives must not wait, too
	}
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	for a.q.owed > maxOwed && a.q.pumping {
		a.q.room.Wait()
	}
}

// receive feeds the messages that have come to the machine.
func (a *agent) receive() {
	a.receiving.Lock()
	defer a.receiving.Unlock()
	a.q.mu.Lock()
	in := a.q.in
	a.q.in = nil
	a.q.mu.Unlock()
	for _, buf := range in {
		size := len(*buf)
		f, err := wire.Decode(*buf)
		a.h.recycle(buf)
		switch {
		case err != nil:
			a.step(session.Shut{Code: wire.CloseProtocol, Reason: err.Error()})
		default:
			a.step(session.Received{Frame: f, Size: size}) // also if f is nil: what may be ignored is charged like the rest
		}
	}
}

// turn is how often the pump looks for more to do before it lets other sessions have the worker: one whose agent never stops
// sending must not keep it.
const turn = 32

// run is the pump: it does what there is to do, in order, and writes when there is nothing more. What streams have to send goes
// only when nothing else does, a piece at a time. It runs on one goroutine at a time.
func (a *agent) run() {
	var out outgoing
	defer out.end(a)
	for range turn {
		a.receive()
		a.q.mu.Lock()
		dirty, actions := a.q.dirty.take(), a.q.actions
		a.q.actions = nil
		idle := len(dirty) == 0 && len(actions) == 0 && len(a.q.in) == 0 && len(out.frames) == 0
		if idle && !a.q.streams {
			a.q.pumping, a.q.owed = false, 0
			a.q.room.Broadcast()
			a.q.mu.Unlock()
			return
		}
		if idle {
			a.q.streams = false
		}
		a.q.mu.Unlock()
		if idle {
			a.sendStreams(&out)
		}
		for _, act := range actions {
			a.do(act, &out)
		}
		if len(dirty) > 0 {
			a.step(session.Dirty{Keys: dirty})
		}
		if len(dirty) == 0 && len(actions) == 0 {
			out.flush(a)
			a.settle()
		}
	}
	out.flush(a)
	a.settle()
	a.h.crew.put(a)
}

// settle says that all messages are answered but those that have come since.
func (a *agent) settle() {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	a.q.owed = 0
	for _, buf := range a.q.in {
		a.q.owed += len(*buf) + frameWeight
	}
	a.q.room.Broadcast()
}

// stuckAfter is how long a write may take before another worker takes the place of the one that waits.
const stuckAfter = 10 * time.Millisecond

// stuck reports whether the pump waits for the agent to take what it writes.
func (a *agent) stuck() bool {
	since := a.ws.WritingSince()
	return !since.IsZero() && time.Since(since) > stuckAfter
}

// outgoing collects frames, so that what belongs together is one write and one system call.
type outgoing struct {
	buf    *[]byte // from the hub's pool
	frames []byte
	count  int // of frames
	bytes  int // of frames without what WebSocket adds
}

const flushAt = 32 << 10 // bytes

func (o *outgoing) add(a *agent, f wire.Frame) {
	if a.hungUp || a.broken {
		return
	}
	if o.buf == nil {
		o.buf = a.h.bufs.Get().(*[]byte)
		o.frames = (*o.buf)[:0]
	}
	start := len(o.frames)
	room := socket.Begin(o.frames)
	b, err := wire.Append(room, f)
	if err != nil {
		a.h.log.Error("a frame could not be encoded", "node", a.node, "err", err)
		return
	}
	o.bytes += len(b) - len(room)
	o.frames = socket.End(b, start)
	if o.count++; len(o.frames) >= flushAt {
		o.flush(a)
	}
}

// flush writes what was collected. The sweep closes a connection that takes nothing.
func (o *outgoing) flush(a *agent) {
	if len(o.frames) == 0 {
		return
	}
	if err := a.ws.Write(o.frames); err != nil {
		a.broken = true
		_ = a.ws.CloseNow() // the reader learns it and ends the session
	} else {
		a.h.meter.sent(o.count, o.bytes)
	}
	o.frames, o.count, o.bytes = o.frames[:0], 0, 0
}

func (o *outgoing) end(a *agent) {
	if o.buf != nil {
		*o.buf = o.frames
		a.h.recycle(o.buf)
	}
}

// recycle gives a buffer back to the pool, unless it has grown large.
func (h *Hub) recycle(buf *[]byte) {
	if cap(*buf) <= 2*flushAt {
		*buf = (*buf)[:0]
		h.bufs.Put(buf)
	}
}

// keySet is a set of keys, nearly always of one or two.
type keySet struct {
	few  []wire.Key
	many map[wire.Key]struct{}
}

const fewKeys = 16

func (s *keySet) add(k wire.Key) {
	if s.many != nil {
		s.many[k] = struct{}{}
		return
	}
	for _, have := range s.few {
		if have == k {
			return
		}
	}
	if s.few = append(s.few, k); len(s.few) > fewKeys {
		s.many = make(map[wire.Key]struct{}, 2*len(s.few))
		for _, k := range s.few {
			s.many[k] = struct{}{}
		}
		s.few = nil
	}
}

// take returns the keys and empties the set.
func (s *keySet) take() []wire.Key {
	keys := s.few
	for k := range s.many {
		keys = append(keys, k)
	}
	s.few, s.many = nil, nil
	return keys
}
