package stream

import (
	"io"
	"slices"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Stream is one stream of a Mux, without I/O: Read and Write do what can be done at once. Changed, if set, is called when more may
// be possible. It belongs to its Mux and is as little safe for concurrent use.
type Stream struct {
	Changed func()

	m       *Mux
	id      uint32
	service string
	ours    bool
	open    bool // the peer has accepted, or this side has
	gone    bool // from the Mux: nothing is sent or received any more
	err     error

	recv       [][]byte // what has arrived and was not read
	recvCredit int      // bytes that the peer may send
	owed       int      // read, and not yet given back to the peer
	eof        bool     // the peer sends no more

	send       [][]byte // taken from the writer and not sent
	sendLen    int
	sendCredit int
	sendMax    int  // what the window was at first
	fin        bool // nothing more comes from the writer
	finSent    bool
	sendErr    error // why nothing can be written any more, although what has come can be read
	closed     bool  // nobody reads here any more
	linger     time.Time

	queued   bool // in Mux.turn
	starving bool // in Mux.starved
}

// Service is what the stream was opened to.
func (s *Stream) Service() string { return s.service }

// Opened reports whether data can flow; an error says that it never will.
func (s *Stream) Opened() (bool, error) { return s.open, s.err }

func (s *Stream) changed() {
	if s.Changed != nil {
		s.Changed()
	}
}

// Read copies what has arrived. It returns 0 and nil when there is nothing yet, io.EOF after the peer's last byte.
func (s *Stream) Read(p []byte) (n int, err error) {
	for n < len(p) && len(s.recv) > 0 {
		k := copy(p[n:], s.recv[0])
		n += k
		s.owed += k
		if s.recv[0] = s.recv[0][k:]; len(s.recv[0]) == 0 {
			s.recv[0] = nil
			s.recv = s.recv[1:]
			s.owed += wire.StreamCost
		}
	}
	switch {
	case n > 0:
		s.settle()
		s.enqueue()
		return n, nil
	case s.err != nil:
		return 0, s.err
	case s.closed:
		return 0, io.ErrClosedPipe
	case s.eof && len(s.recv) == 0:
		return 0, io.EOF
	}
	return 0, nil
}

// Write takes as much of p as there is room for, which may be nothing.
func (s *Stream) Write(p []byte) (n int, err error) {
	switch {
	case s.err != nil:
		return 0, s.err
	case s.fin:
		return 0, io.ErrClosedPipe
	case s.sendErr != nil:
		return 0, s.sendErr
	}
	for len(p) > 0 && s.sendLen < sendBuffer {
		k := min(len(p), sendBuffer-s.sendLen)
		if last := len(s.send) - 1; last >= 0 && len(s.send[last]) < wire.MaxStreamData {
			k = min(k, wire.MaxStreamData-len(s.send[last]))
			s.send[last] = append(s.send[last], p[:k]...)
		} else {
			k = min(k, wire.MaxStreamData)
			s.send = append(s.send, append(make([]byte, 0, k), p[:k]...))
		}
		s.sendLen += k
		n, p = n+k, p[k:]
	}
	s.enqueue()
	return n, nil
}

// CloseWrite says that nothing more is written. What was written is still sent.
func (s *Stream) CloseWrite() {
	s.fin = true
	s.enqueue()
}

// Close ends both directions: what was written is still sent, within Limits.Linger; what has arrived is dropped.
func (s *Stream) Close(now time.Time) {
	if s.closed {
		return
	}
	s.closed, s.fin = true, true
	for _, b := range s.recv { // dropped is as good as read: the peer may be closing, too, and have bytes to send
		s.owed += len(b) + wire.StreamCost
	}
	s.recv = nil
	switch {
	case s.gone:
	case !s.open:
		s.abort(wire.ResetCancelled, "", io.ErrClosedPipe)
	default:
		if s.sendLen > 0 {
			s.linger = now.Add(s.m.cfg.Limits.Linger)
		}
		s.settle()
		s.enqueue()
	}
	s.changed()
}

// Reset ends both directions at once; reason is for the people at the other end.
func (s *Stream) Reset(code wire.ResetCode, reason string) {
	s.abort(code, reason, &ResetError{Local: true, Code: code, Reason: reason})
}

func (s *Stream) abort(code wire.ResetCode, reason string, err error) {
	if s.gone {
		return
	}
	s.m.control = append(s.m.control, &wire.StreamReset{ID: s.id, Code: code, Reason: wire.ClipText(reason, wire.MaxText)})
	s.fail(err)
}

// fail drops everything; Read and Write give err from now on.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.recv, s.send, s.sendLen = nil, nil, 0
	s.remove()
	s.changed()
}

// lost is what becomes of the stream when its session ends.
func (s *Stream) lost(err error) {
	s.gone, s.linger = true, time.Time{}
	if !s.eof {
		s.fail(err)
		return
	}
	// All has arrived, and may be read; what cannot be written any more is an error.
	s.sendErr, s.send, s.sendLen = err, nil, 0
	s.changed()
}

func (s *Stream) remove() {
	if s.gone {
		return
	}
	s.gone, s.linger = true, time.Time{}
	delete(s.m.streams, s.id)
	if s.ours {
		s.m.ours--
	} else {
		s.m.theirs--
	}
}

// settle removes the stream when nothing more can come of it.
func (s *Stream) settle() {
	if s.finSent && s.eof && (s.closed || len(s.recv) == 0) {
		s.remove()
	}
}

// enqueue gives the stream a turn if it has something to send.
func (s *Stream) enqueue() {
	if s.gone || s.queued || !s.open || !s.wants() {
		return
	}
	s.queued = true
	s.m.turn = append(s.m.turn, s)
}

// wants reports whether next would give a frame, or may: how much both windows allow is seen there. A stream that waits for a window
// to send does not wait to give one back.
func (s *Stream) wants() bool {
	switch {
	case s.owes():
		return true
	case s.sendLen > 0:
		return !s.starving
	}
	return s.unread() || s.fin && !s.finSent
}

// owes reports whether enough was read for the peer to be told.
func (s *Stream) owes() bool { return !s.eof && s.owed >= s.m.cfg.Limits.Window/2 }

// unread reports whether the peer must be told that nobody reads.
func (s *Stream) unread() bool { return s.closed && !s.eof }

// next returns what the stream sends in its turn.
func (s *Stream) next() wire.StreamFrame {
	switch {
	case s.gone:
		return nil
	case s.owes():
		n := s.owed
		s.owed = 0
		s.recvCredit += n
		return &wire.StreamWindow{ID: s.id, Bytes: uint32(n)}
	case s.starving:
		return nil
	case s.sendLen > 0:
		return s.piece()
	case s.unread():
		s.finSent, s.eof = true, true
		s.settle()
		return &wire.StreamReset{ID: s.id, Code: wire.ResetClosed}
	case s.fin && !s.finSent:
		s.finSent = true
		s.settle()
		return &wire.StreamEnd{ID: s.id}
	}
	return nil
}

// piece returns as much of the oldest chunk as both windows allow.
func (s *Stream) piece() wire.StreamFrame {
	chunk := s.send[0]
	n := min(len(chunk), min(s.sendCredit, s.m.credit)-wire.StreamCost)
	if n < min(len(chunk), worthwhile) {
		s.starving = true
		s.m.starved = append(s.m.starved, s)
		return nil
	}
	if n == len(chunk) {
		s.send[0] = nil
		s.send = s.send[1:]
	} else {
		s.send[0] = chunk[n:]
	}
	s.sendLen -= n
	s.sendCredit -= n + wire.StreamCost
	s.m.credit -= n + wire.StreamCost
	s.m.stats.BytesOut += uint64(n)
	if s.sendLen == 0 {
		s.send = nil
		s.linger = time.Time{}
	}
	s.changed()
	return &wire.StreamData{ID: s.id, Data: chunk[:n:n]}
}

func (s *Stream) accepted(f *wire.StreamAccept) error {
	if !s.ours || s.open {
		return violation("stream %d is accepted twice", s.id)
	}
	s.open, s.sendCredit, s.sendMax = true, int(f.Window), int(f.Window)
	s.m.stats.Opened++
	s.changed()
	return nil
}

func (s *Stream) arrived(b []byte) error {
	cost := len(b) + wire.StreamCost
	switch {
	case !s.open || s.eof:
		return violation("data of stream %d comes before it was accepted, or after its end", s.id)
	case cost > s.recvCredit:
		return exceeded("stream %d sends more than the %d bytes that it may", s.id, s.m.cfg.Limits.Window)
	}
	s.recvCredit -= cost
	if s.closed {
		s.owed += cost
		s.enqueue()
		return nil
	}
	s.recv = append(s.recv, b)
	s.changed()
	return nil
}

func (s *Stream) refill(n int) error {
	if s.sendCredit+n > s.sendMax {
		return violation("stream %d gives %d bytes back, %d were taken", s.id, n, s.sendMax-s.sendCredit)
	}
	s.sendCredit += n
	if s.starving {
		s.starving = false
		s.m.starved = slices.DeleteFunc(s.m.starved, func(o *Stream) bool { return o == s })
	}
	s.enqueue()
	return nil
}

func (s *Stream) ended() error {
	if !s.open || s.eof {
		return violation("stream %d ends twice, or before it was accepted", s.id)
	}
	s.eof = true
	s.settle()
	s.enqueue()
	s.changed()
	return nil
}

// reset takes the peer's word that the stream is over.
func (s *Stream) reset(f *wire.StreamReset) {
	switch {
	case !s.open:
		s.fail(&RefusedError{Service: s.service, Code: f.Code, Reason: f.Reason})
	case f.Code == wire.ResetClosed:
		s.eof, s.finSent, s.sendErr = true, true, ErrPeerClosed
		s.send, s.sendLen, s.linger = nil, 0, time.Time{}
		s.settle()
		s.changed()
	default:
		s.fail(&ResetError{Code: f.Code, Reason: f.Reason})
	}
}
