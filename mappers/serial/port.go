package serial

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

// port is one line with all devices on it. push, poke, join, leave and close may be called by anyone; all else belongs to the owner
// goroutine in run.
type port struct {
	key, name string
	refs      int // sessions; guarded by the Driver
	witness   serialline.Witness
	ctx       context.Context
	cancel    context.CancelFunc
	done      chan struct{}
	wake      chan struct{}

	mu       sync.Mutex
	urgent   []*exchange
	normal   []*exchange
	sessions []*session
	line     serialline.Line // the one whose Read or Write may have to be interrupted; nil if none
	failing  bool            // the line is not open, and the devices know

	keeper    *serialline.Keeper
	buf       [512]byte
	heard     time.Time // when the last byte came
	idleAt    time.Time // when the last exchange ended
	owedUntil time.Time // until then the reply to a request may come that nobody waits for any more
	pace      pace
}

// newPort starts the owner goroutine. It outlives the Open that made it, so its context is nobody's: close ends it.
func newPort(key, name string, open func(context.Context, serialline.Tap) (serialline.Line, error)) *port {
	ctx, cancel := context.WithCancel(context.Background())
	p := &port{key: key, name: name, ctx: ctx, cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	p.keeper = serialline.NewKeeper(func() (serialline.Line, error) { return open(ctx, p.witness.Tap) })
	go p.run()
	return p
}

// close interrupts what is under way and waits for the owner goroutine.
func (p *port) close() {
	p.cancel()
	p.poke()
	<-p.done
}

// join adds a device to the line.
func (p *port) join(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions = append(p.sessions, s)
}

// leave takes a device off the line; its exchanges are answered by then, or nobody waits for them.
func (p *port) leave(s *session) {
	p.mu.Lock()
	p.sessions = slices.DeleteFunc(slices.Clone(p.sessions), func(o *session) bool { return o == s })
	p.mu.Unlock()
	p.poke()
}

// push queues an exchange.
func (p *port) push(x *exchange) {
	p.mu.Lock()
	if x.urgent {
		p.urgent = append(p.urgent, x)
	} else {
		p.normal = append(p.normal, x)
	}
	p.mu.Unlock()
	p.poke()
}

// longAgo is a deadline that interrupts.
var longAgo = time.Unix(1, 0)

// poke makes the owner look at what has changed.
func (p *port) poke() {
	p.mu.Lock()
	if p.line != nil {
		_ = p.line.SetDeadline(longAgo) // a line that fails here fails in Read too
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next takes the next exchange off the queue, writes ahead of reads; nil if there is none.
func (p *port) next() *exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := &p.urgent
	if len(*list) == 0 {
		list = &p.normal
	}
	if len(*list) == 0 {
		return nil
	}
	x := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return x
}

// run owns the line.
func (p *port) run() {
	defer close(p.done)
	defer p.drop(nil)
	for p.ctx.Err() == nil {
		x := p.next()
		switch {
		case x == nil:
			p.listen()
		case x.ctx.Err() == nil:
			x.done <- p.serve(x)
		}
	}
}

// open returns the open line, and tells the devices when that changes.
func (p *port) open() (serialline.Line, error) {
	before := p.keeper.Opened()
	line, err := p.keeper.Line()
	if err != nil {
		p.setFault(device.Unreachable("%v", err))
		return nil, err
	}
	if p.keeper.Opened() != before {
		p.owedUntil, p.heard = time.Time{}, time.Now()
		p.setFault(nil)
	}
	return line, nil
}

// drop closes the line. why is for the devices; nil if nobody needs to know.
func (p *port) drop(why error) {
	p.keeper.Drop()
	if why != nil {
		p.setFault(device.Unreachable("%v", why))
	}
}

func (p *port) setFault(err error) {
	p.mu.Lock()
	changed := p.failing != (err != nil)
	p.failing = err != nil
	sessions := p.sessions
	p.mu.Unlock()
	for _, s := range sessions {
		s.lineChanged(err, changed)
	}
}

// read reads what comes until a time (zero: for ever), or until poke or stop's end. It returns nothing and no error after that.
func (p *port) read(line serialline.Line, until time.Time, stop context.Context) ([]byte, error) {
	if d := p.pace.wait(time.Now()); d > 0 && !p.sleep(d) {
		return nil, nil
	}
	p.mu.Lock()
	// Whoever pokes after this finds the line; whoever did before has left a trace that is looked at here.
	if p.ctx.Err() != nil || stop != nil && stop.Err() != nil || stop == nil && len(p.urgent)+len(p.normal) > 0 {
		p.mu.Unlock()
		return nil, nil
	}
	p.line = line
	err := line.SetDeadline(until)
	p.mu.Unlock()
	n := 0
	if err == nil {
		n, err = line.Read(p.buf[:])
	}
	p.mu.Lock()
	p.line = nil
	p.mu.Unlock()
	if n > 0 {
		p.heard = time.Now()
		p.pace.spend(p.heard, n)
		return p.buf[:n], nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return nil, err
}

// write sends bytes, until a time at most.
func (p *port) write(line serialline.Line, data []byte, limit time.Duration) error {
	if err := line.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	// Flow control may hold a write up; close must not wait for that.
	defer context.AfterFunc(p.ctx, func() { _ = line.SetDeadline(longAgo) })()
	_, err := line.Write(data)
	return err
}

// sleep waits; close interrupts it, and it returns false.
func (p *port) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// waitWake waits until something changes or d has passed; 0 means for ever.
func (p *port) waitWake(d time.Duration) {
	var timer <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-p.wake:
	case <-p.ctx.Done():
	}
}

func (p *port) members() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions
}
