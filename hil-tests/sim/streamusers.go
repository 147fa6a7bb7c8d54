package sim

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// pair is one stream, with who uses it at each end: a log that is followed (one side writes much and the other reads), an exec (both
// write), a request (little in both directions). What each side writes can be told from every other stream's.
type pair struct {
	id   uint32
	by   int // the end that opened it
	taps [2]*tap
}

// tap is what one end does with a stream, and what has become of it.
type tap struct {
	s       *stream.Stream // nil: this end has not heard of it
	total   int            // bytes to write
	written int            // taken by the stream
	sent    int            // by the mux
	came    int            // to the other end's bytes: arrived at this mux
	read    int
	deafTo  time.Time // reads nothing until then

	wrote, closed, reset bool // this end has ended its direction, closed, or reset
	closedAt             time.Time
	eof                  bool
	err                  error // nothing more comes of it
}

// String implements fmt.Stringer.
func (t *tap) String() string {
	return fmt.Sprintf("{%d of %d written, %d sent, %d came, %d read, wrote=%t closed=%t reset=%t eof=%t err=%v}", t.written, t.total, t.sent, t.came, t.read, t.wrote, t.closed, t.reset, t.eof, t.err)
}

func (t *tap) done() bool { return t.s == nil || t.err != nil || t.closed || t.eof && t.wrote }

func (p *pair) done() bool { return p.taps[0].done() && p.taps[1].done() }

// byteAt is what the end writes at a place of a stream.
func byteAt(id uint32, end, i int) byte {
	x := uint32(i)*2654435761 + id*40503 + uint32(end)*97
	return byte(x >> 24)
}

// scratch is as much as is written or read at once.
const scratch = 12 << 10

// scratch returns n bytes to write or read with; the next call takes them back.
func (s *Sim) scratch(n int) []byte {
	if s.buffer == nil {
		s.buffer = make([]byte, scratch)
	}
	return s.buffer[:n]
}

// live plays the users of a connection's streams until its ends are over.
func (x *streams) live() {
	if !x.alive(atAgent) && !x.alive(atRelay) || x.c.s.stopped {
		return
	}
	s := x.c.s
	for end := range sides {
		if s.chance(s.world.Streams) {
			x.open(end)
		}
	}
	keep := x.list[:0]
	for _, p := range x.list {
		for end := range sides {
			if x.alive(end) {
				x.use(p, end)
			}
		}
		if !p.done() {
			keep = append(keep, p)
		}
	}
	x.list = keep
	for end := range sides {
		x.rouse(end)
	}
	pause := 20*time.Millisecond + s.upTo(600*time.Millisecond)
	if s.world.Streams == 0 && len(x.list) == 0 {
		pause = 10 * time.Second
	}
	s.after(pause, x.live)
}

// open has an end open a stream.
func (x *streams) open(end int) {
	s := x.c.s
	if end == atRelay {
		x.c.relayStreams()
	}
	if !x.alive(end) {
		return
	}
	service := "somebody"
	if s.chance(0.05) {
		service = "nobody"
	}
	st, err := x.mux[end].Dial(service)
	if err != nil {
		var refused *stream.RefusedError
		if !errors.As(err, &refused) {
			s.fail("stream", "%s: the %s cannot open a stream: %v", x.c.who, sides[end], err)
		}
		return
	}
	x.dials[end]++
	id := 2 * x.dials[end]
	if end == atAgent {
		id--
	}
	p := &pair{id: id, by: end, taps: [2]*tap{{}, {}}}
	p.taps[end] = x.tap(st)
	x.list, x.byID[id] = append(x.list, p), p
	s.count.streams++
	x.rouse(end)
}

func (x *streams) tap(st *stream.Stream) *tap {
	s := x.c.s
	t := &tap{s: st, total: s.r.IntN(2000)}
	if s.chance(0.3) {
		t.total = s.r.IntN(400_000)
	}
	if s.chance(0.1) {
		t.deafTo = s.now.Add(s.upTo(2 * time.Minute))
	}
	return t
}

// opened is told of a stream that the other end has opened.
func (x *streams) opened(end int, id uint32, st *stream.Stream) {
	p := x.byID[id]
	if p == nil || p.by == end {
		x.c.s.fail("stream", "%s: stream %d is opened at the %s, which nobody has opened", x.c.who, id, sides[end])
		return
	}
	p.taps[end] = x.tap(st)
}

// use does what comes to one end's mind.
func (x *streams) use(p *pair, end int) {
	t, s := p.taps[end], x.c.s
	if t.s == nil || t.done() {
		return
	}
	open, err := t.s.Opened()
	if err != nil {
		x.lost(p, end, err)
		return
	}
	calm := s.world.Streams == 0
	switch {
	case !calm && s.chance(0.005):
		t.reset = true
		t.s.Reset(wire.ResetFailed, "by chance")
	case !calm && s.chance(0.01):
		t.closed, t.closedAt, t.reset = true, s.now, t.reset || !open // one that is closed before it is open is cancelled
		t.s.Close(x.now(end))
		return
	}
	if open {
		x.write(p, end)
	}
	if calm || !s.now.Before(t.deafTo) {
		x.read(p, end)
	}
}

func (x *streams) write(p *pair, end int) {
	t, s := p.taps[end], x.c.s
	if t.wrote || t.err != nil {
		return
	}
	n := min(t.total-t.written, 1+s.r.IntN(scratch))
	buf := s.scratch(n)
	for i := range buf {
		buf[i] = byteAt(p.id, end, t.written+i)
	}
	n, err := t.s.Write(buf)
	if t.written += n; t.written-t.sent > streamBuffer {
		s.fail("memory", "%s: %d bytes of stream %d wait at the %s to be sent", x.c.who, t.written-t.sent, p.id, sides[end])
	}
	switch {
	case errors.Is(err, stream.ErrPeerClosed):
		t.wrote = true // it will read what there is
	case err != nil:
		x.lost(p, end, err)
	case t.written == t.total:
		t.s.CloseWrite()
		t.wrote = true
	}
}

func (x *streams) read(p *pair, end int) {
	t, s := p.taps[end], x.c.s
	if t.eof || t.err != nil {
		return
	}
	if held := t.came - t.read; held > streamWindow {
		s.fail("memory", "%s: %d bytes of stream %d wait at the %s to be read", x.c.who, held, p.id, sides[end])
	}
	n, err := t.s.Read(s.scratch(1 + s.r.IntN(scratch)))
	buf := s.buffer
	for i, b := range buf[:n] {
		if b != byteAt(p.id, 1-end, t.read+i) {
			s.fail("bytes", "%s: byte %d of stream %d is not what the %s wrote", x.c.who, t.read+i, p.id, sides[1-end])
			break
		}
	}
	peer := p.taps[1-end]
	if t.read += n; t.read > peer.written {
		s.fail("bytes", "%s: %d bytes of stream %d are read, %d were written", x.c.who, t.read, p.id, peer.written)
	}
	switch {
	case errors.Is(err, io.EOF):
		t.eof = true
		if !peer.wrote && !peer.closed || t.read != peer.written {
			s.fail("bytes", "%s: stream %d ends at the %s after %d bytes; at the other end: %v", x.c.who, p.id, sides[end], t.read, peer)
		}
	case err != nil:
		x.lost(p, end, err)
	}
}

// lost notes why nothing more comes of a stream, which must have a cause.
func (x *streams) lost(p *pair, end int, err error) {
	t, peer := p.taps[end], p.taps[1-end]
	t.err = err
	var reset *stream.ResetError
	var refused *stream.RefusedError
	switch {
	case errors.As(err, &refused), t.reset, peer.reset:
	case errors.Is(err, stream.ErrSessionEnded):
		if !x.over[end] {
			x.c.s.fail("stream", "%s: stream %d says at the %s that its session is over: %v", x.c.who, p.id, sides[end], err)
		}
	case errors.As(err, &reset) && peer.closed && x.c.s.now.Sub(peer.closedAt) >= lingerTime:
	default:
		x.c.s.fail("stream", "%s: stream %d ends at the %s without a cause: %v; at the other end: %v", x.c.who, p.id, sides[end], err, peer)
	}
}

// ended checks that a stream has ended with its session: nothing can be written, and nothing is read but what had arrived whole.
func (x *streams) ended(p *pair, end int) {
	t, s := p.taps[end], x.c.s
	if t.s == nil || t.done() {
		return
	}
	if n, err := t.s.Write([]byte{0}); n != 0 || err == nil {
		s.fail("outlives", "%s: stream %d takes bytes at the %s after its session", x.c.who, p.id, sides[end])
	}
	for range streamWindow {
		n, err := t.s.Read(s.scratch(scratch))
		if err != nil {
			t.err = err
			return
		}
		if t.read += n; n == 0 {
			break
		}
	}
	s.fail("outlives", "%s: a reader of stream %d waits at the %s after its session", x.c.who, p.id, sides[end])
}
