package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

// endpoint is one connection with everything behind it: a TCP address, a serial line, a gateway that dials in. push, close and
// done may be used by anyone; all else belongs to the owner goroutine in run.
type endpoint struct {
	key     string
	name    string // for messages
	framing framing
	opener  opener
	haste   time.Duration // divides back-offs
	queue   *queue
	cancel  context.CancelFunc
	ctx     context.Context
	done    chan struct{}
	refs    int      // sessions; guarded by the Driver
	users   []string // their devices; guarded by the Driver
	witness serialline.Witness

	line    line
	unhook  func() bool // ends the hook by which close interrupts line
	replied bool        // something has been answered on this line
	flight  []*transaction
	id      uint16
	buf     [bufSize]byte
	have    int       // bytes in buf
	last    time.Time // when bytes last went over the line
	noisy   bool      // there may be more of a bad reply on the line
	idle    time.Duration
	health  device.Backoff
	units   map[byte]*device.Backoff
	silent  map[byte]bool // units that did not answer since anything did
}

// newEndpoint starts the owner goroutine. It outlives the Open that made it, so its context is nobody's: close ends it.
func newEndpoint(key string, f framing, o opener, haste time.Duration) *endpoint {
	ctx, cancel := context.WithCancel(context.Background())
	e := &endpoint{key: key, name: o.name(), framing: f, opener: o, haste: haste, queue: newQueue(), ctx: ctx, cancel: cancel, done: make(chan struct{}),
		units: make(map[byte]*device.Backoff), silent: make(map[byte]bool)}
	go e.run()
	return e
}

// close interrupts what is under way and waits for the owner goroutine.
func (e *endpoint) close() {
	e.cancel()
	<-e.done
}

// run owns the line.
func (e *endpoint) run() {
	defer close(e.done)
	defer e.opener.close()
	defer e.drop()
	for e.ctx.Err() == nil {
		e.fill()
		if len(e.flight) > 0 {
			e.receive()
		} else {
			e.rest()
		}
	}
}

// rest waits for work, and closes a connection that has none for long.
func (e *endpoint) rest() {
	var idle <-chan time.Time
	if e.line != nil && e.idle > 0 {
		timer := time.NewTimer(e.idle)
		defer timer.Stop()
		idle = timer.C
	}
	select {
	case <-e.ctx.Done():
	case <-e.queue.wake:
	case <-idle:
		e.drop()
	}
}

// fill sends what waits, as far as the device takes several requests at a time.
func (e *endpoint) fill() {
	for e.ctx.Err() == nil {
		t := e.queue.pop()
		switch {
		case t == nil:
			return
		case t.gone():
		case len(e.flight) > 0 && len(e.flight) >= t.cfg.pipeline:
			e.queue.putBack(t) // a write that comes meanwhile goes first
			return
		default:
			e.serve(t)
		}
	}
}

func (e *endpoint) unit(id byte) *device.Backoff {
	h := e.units[id]
	if h == nil {
		h = new(device.Backoff)
		e.units[id] = h
	}
	return h
}

// serve sends one transaction, unless the unit or the endpoint is in back-off.
func (e *endpoint) serve(t *transaction) {
	now := time.Now()
	if err := e.health.Blocked(now); err != nil {
		t.finish(err)
		return
	}
	if err := e.unit(t.cfg.unit).Blocked(now); err != nil && !t.cfg.broadcast {
		t.finish(err)
		return
	}
	t.begin(now)
	t.reused = e.line != nil
	e.idle = t.cfg.idleClose
	if err := e.ready(t); err != nil {
		e.judge(t, err)
		return
	}
	if t.gone() { // while the line became silent: a request that cannot be in time would cost the line
		return
	}
	t.asked = true
	if err := e.send(t); err != nil {
		e.flight = append(e.flight, t)
		if errors.Is(err, serialline.ErrEcho) {
			e.wrong(len(e.flight)-1, badFrame("%s: another unit talks at the same time, or echo is set where there is none", err))
			return
		}
		e.broken(err)
		return
	}
	if t.cfg.broadcast {
		e.pause(time.Now().Add(t.cfg.broadcastPause)) // nobody answers, and everybody is busy (Serial Line V1.02, section 2.4.1)
		e.carriedOut(t)
		return
	}
	e.flight = append(e.flight, t)
}

// ready brings the line into a state in which a request can go out: connected, silent for long enough, nothing waiting on it. It stops
// when nobody waits for the request any more.
func (e *endpoint) ready(t *transaction) error {
	if e.line != nil && len(e.flight) == 0 {
		if err := e.quiet(t); err != nil {
			e.drop()
			t.reused = false
		}
		if t.gone() {
			return nil
		}
		t.begin(time.Now()) // that others were not silent is not the unit's time
	}
	if e.line != nil {
		return nil
	}
	return e.connect(t)
}

// quiet waits for the silence between two requests and throws away what is on the line: nothing has been asked, so it
// answers nothing. Its error means that the line has to be opened again.
func (e *endpoint) quiet(t *transaction) error {
	gap := max(t.cfg.requestGap, t.cfg.silence)
	if e.noisy && t.cfg.silence > 0 {
		// The rest of a bad frame, or a unit that woke up late: what follows would run into it.
		for limit := time.Now().Add(maxNoise); ; {
			if err := e.line.SetDeadline(time.Now().Add(gap)); err != nil {
				return err
			}
			n, err := e.line.Read(e.buf[:])
			e.witness.Tap(time.Now(), false, e.buf[:n])
			if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if n == 0 && err != nil {
				return err
			}
			if e.last = time.Now(); e.last.After(limit) || e.ctx.Err() != nil {
				return &frameError{what: "the line is never silent"}
			}
		}
	}
	e.pause(e.last.Add(gap))
	e.have, e.noisy = 0, false
	_, err := e.line.Discard()
	return err
}

// maxNoise is how long a line may go on after a bad reply before it is opened anew.
const maxNoise = time.Second

// pauser is a line that knows a more exact clock than Go's timers: *serialline.Port is one.
type pauser interface{ Pause(until time.Time) }

// pause waits until t; close interrupts it.
func (e *endpoint) pause(t time.Time) {
	d := time.Until(t)
	exact, ok := e.line.(pauser)
	switch {
	case d <= 0:
	case ok && d < 20*time.Millisecond:
		exact.Pause(t)
	case d < 20*time.Millisecond:
		time.Sleep(d)
	default:
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-e.ctx.Done():
		}
	}
}

// connectError marks errors of connecting.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

func (e *endpoint) connect(t *transaction) error {
	ctx, cancel := context.WithDeadline(e.ctx, t.deadline)
	defer cancel()
	l, err := e.opener.open(ctx)
	if err != nil {
		return &connectError{err}
	}
	e.line, e.replied, e.have, e.noisy, e.last = l, false, 0, false, time.Now()
	e.unhook = context.AfterFunc(e.ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
	if t.cfg.connectPause > 0 {
		e.pause(time.Now().Add(t.cfg.connectPause))
	}
	t.begin(time.Now()) // what opening took, which is much on a busy gateway, is not the unit's time
	return nil
}

func (e *endpoint) drop() {
	if e.line == nil {
		return
	}
	e.unhook()
	_ = e.line.Close() // what is left of it does not matter
	e.line, e.have = nil, 0
	e.opener.closed(e.replied)
}

// send puts the request on the line.
func (e *endpoint) send(t *transaction) error {
	r := t.request
	if r.adu == nil || r.unit != t.cfg.unit {
		adu, err := e.framing.encode(t.cfg.unit, &r.pdu)
		if err != nil {
			return err
		}
		r.adu, r.unit = adu, t.cfg.unit
	}
	if e.framing == framingTCP {
		e.id++
		t.id = e.id
		binary.BigEndian.PutUint16(r.adu, t.id)
	}
	if t.cfg.charTime > 0 { // the time-out is the unit's; what the line takes comes on top
		t.deadline = t.deadline.Add(t.cfg.charTime * time.Duration(len(r.adu)+r.expected(e.framing)))
	}
	if err := e.line.SetDeadline(t.deadline); err != nil {
		return err
	}
	if e.ctx.Err() != nil {
		return device.ErrClosed
	}
	e.witness.Tap(time.Now(), true, r.adu)
	_, err := e.line.Write(r.adu)
	e.last = time.Now()
	return err
}

// file names the endpoint's capture.
func (e *endpoint) file() string {
	if o, ok := e.opener.(*serialOpener); ok {
		return o.cfg.Path
	}
	return "modbus-" + strings.Join(strings.Fields(e.key), "-")
}

// expected is about how many characters the reply has.
func (r *request) expected(f framing) int {
	n := 4 + max(r.want, 4)
	if f == framingASCII {
		n = 2*n + 3
	}
	return n
}

// receive waits for bytes and completes what they answer.
func (e *endpoint) receive() {
	deadline := e.flight[0].deadline
	for _, t := range e.flight[1:] {
		if t.deadline.Before(deadline) {
			deadline = t.deadline
		}
	}
	if err := e.line.SetDeadline(deadline); err != nil {
		e.broken(err)
		return
	}
	if e.ctx.Err() != nil {
		return
	}
	n, err := e.line.Read(e.buf[e.have:])
	if n > 0 {
		e.witness.Tap(time.Now(), false, e.buf[e.have:e.have+n])
		e.have += n
		e.last = time.Now()
		e.scan()
		return
	}
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		e.expired()
	default:
		e.broken(err)
	}
}

// scan completes the transactions whose replies have come.
func (e *endpoint) scan() {
	for len(e.flight) > 0 && e.have > 0 {
		i, pdu, size, err := e.match()
		switch {
		case err != nil:
			e.wrong(i, err)
			return
		case size == 0 && e.have == len(e.buf):
			e.wrong(i, badFrame("%d bytes, and no reply among them", e.have))
			return
		case size == 0:
			return
		}
		if err := e.follows(i, e.buf[size:e.have]); err != nil {
			e.wrong(i, err)
			return
		}
		t := e.flight[i]
		data, err := t.request.check(pdu)
		if err != nil && isBadFrame(err) {
			e.wrong(i, err)
			return
		}
		t.data = t.reply[:copy(t.reply[:], data)]
		e.have = copy(e.buf[:], e.buf[size:e.have])
		e.take(i)
		e.judge(t, err)
	}
}

// follows judges what has come behind the reply to flight[i]. A device that answers several requests and loses bytes of one reply fills it up
// with the beginning of the next: the reply looks whole, and only what is left of the next one tells.
func (e *endpoint) follows(i int, rest []byte) error {
	if e.framing != framingTCP || len(e.flight) == 1 || len(rest) < 2 {
		return nil
	}
	id := binary.BigEndian.Uint16(rest)
	for k, t := range e.flight {
		if k != i && t.id == id {
			return nil
		}
	}
	return badFrame("a reply followed by transaction id %d, which no request under way has", id)
}

func isBadFrame(err error) bool {
	var frame *frameError
	return errors.As(err, &frame)
}

// match finds the reply at the start of buf and the transaction that it answers. If there is an error, that is the one to
// blame for it.
func (e *endpoint) match() (i int, pdu []byte, size int, err error) {
	buf := e.buf[:e.have]
	t := e.flight[0]
	switch e.framing {
	case framingRTU:
		pdu, size, err = scanRTU(buf, t.cfg.unit, t.request.pdu.FunctionCode)
		return 0, pdu, size, err
	case framingASCII:
		pdu, size, err = scanASCII(buf, t.cfg.unit)
		return 0, pdu, size, err
	case framingTCP:
	}
	if len(e.flight) == 1 && e.have >= 2 && binary.BigEndian.Uint16(buf) != t.id {
		return 0, nil, 0, badFrame("transaction id %d instead of %d", binary.BigEndian.Uint16(buf), t.id)
	}
	m, err := scanTCP(buf)
	if err != nil || m.size == 0 {
		return 0, nil, 0, err
	}
	for i, t := range e.flight {
		if t.id != m.transaction {
			continue
		}
		if t.cfg.unit != m.unit {
			return i, nil, 0, badFrame("unit %d answered instead of unit %d", m.unit, t.cfg.unit)
		}
		return i, m.pdu, m.size, nil
	}
	return 0, nil, 0, badFrame("transaction id %d, which no request under way has", m.transaction)
}

// take removes a transaction from flight.
func (e *endpoint) take(i int) *transaction {
	t := e.flight[i]
	e.flight = append(e.flight[:i], e.flight[i+1:]...)
	return t
}
