package frame

import "bytes"

// Stats counts what a scanner has seen.
type Stats struct {
	Frames   uint64 // good ones
	Checksum uint64 // frames with a wrong checksum
	TooLong  uint64 // frames, or lengths, beyond the limit
	Cut      uint64 // frames that silence cut short
	Garbage  uint64 // bytes that belong to no frame
}

// Scanner finds frames in a stream. It belongs to one goroutine.
type Scanner struct {
	f     Format
	buf   []byte
	stats Stats

	inside  bool // a StartStop or SLIP frame has begun
	escaped bool // the last byte was an escape
	skip    bool // the frame is too long: wait for its end
	credit  int  // work that may be spent on looking for frames after a wrong one
}

// NewScanner returns a scanner for a format that Check accepts.
func NewScanner(f Format) *Scanner { return &Scanner{f: f} }

// Stats returns the counters.
func (s *Scanner) Stats() Stats { return s.stats }

// Reset forgets a frame that has begun, without counting it.
func (s *Scanner) Reset() {
	s.buf = s.buf[:0]
	s.inside, s.escaped, s.skip, s.credit = false, false, false, 0
}

// Begun tells that a part of a frame has been received, so that Silence would mean something.
func (s *Scanner) Begun() bool { return len(s.buf) > 0 || s.inside || s.escaped || s.skip }

// Silence tells the scanner that nothing came for a while: that ends a frame of kind Gap, and the hope for the rest of another.
func (s *Scanner) Silence(emit func(payload []byte)) {
	switch {
	case len(s.buf) == 0:
	case s.f.Kind == Gap:
		if !s.skip {
			s.finish(s.buf, emit)
		}
	case s.f.Kind == Fixed, s.f.Kind == Counted:
		s.stats.Cut++
		// The beginning of a frame may have been noise, with a good frame behind it.
		for len(s.buf) > 0 {
			s.buf = s.drop(s.buf, len(s.buf))
			s.cut(emit)
		}
	default:
		s.stats.Cut++
		s.stats.Garbage += uint64(len(s.buf))
	}
	s.Reset()
}

// Push takes what was received. emit is called for each good frame with its payload, which is valid until it returns; empty payloads
// are not frames.
func (s *Scanner) Push(p []byte, emit func(payload []byte)) {
	switch s.f.Kind {
	case Fixed, Counted:
		// In pieces: the buffer must not grow with what a caller hands over.
		for len(p) > 0 {
			n := min(len(p), max(1, s.f.Max-len(s.buf)))
			s.buf = append(s.buf, p[:n]...)
			s.credit = min(s.credit+creditEach*n, creditEach*s.f.Max)
			p = p[n:]
			s.cut(emit)
		}
	case Delimited:
		for _, b := range p {
			s.delimited(b, emit)
		}
	case StartStop:
		for _, b := range p {
			s.startStop(b, emit)
		}
	case SLIP:
		for _, b := range p {
			s.slip(b, emit)
		}
	case Gap:
		for _, b := range p {
			s.keep(b)
		}
	}
}

// finish checks a frame and hands out its payload.
func (s *Scanner) finish(frame []byte, emit func([]byte)) bool {
	if len(frame) == 0 {
		return true // between two delimiters there is nothing
	}
	payload, ok := s.f.Checksum.verify(frame)
	if !ok {
		s.stats.Checksum++
		return false
	}
	if len(payload) > 0 {
		s.stats.Frames++
		emit(payload)
	}
	return true
}

// keep appends a byte to the frame, unless it is too long.
func (s *Scanner) keep(b byte) {
	switch {
	case s.skip:
		s.stats.Garbage++
	case len(s.buf) >= s.f.Max:
		s.stats.TooLong++
		s.stats.Garbage += uint64(len(s.buf)) + 1
		s.buf, s.skip = s.buf[:0], true
	default:
		s.buf = append(s.buf, b)
	}
}

func (s *Scanner) delimited(b byte, emit func([]byte)) {
	d := s.f.Delimiter
	s.buf = append(s.buf, b)
	if bytes.HasSuffix(s.buf, d) {
		if frame := s.buf[:len(s.buf)-len(d)]; !s.skip && len(frame) > 0 {
			s.finish(frame, emit)
		}
		s.buf, s.skip = s.buf[:0], false
		return
	}
	switch {
	case s.skip: // only the beginning of a delimiter is worth keeping
		if n := len(s.buf) - len(d) + 1; n > 0 {
			s.stats.Garbage += uint64(n)
			s.buf = append(s.buf[:0], s.buf[n:]...)
		}
	case len(s.buf) >= s.f.Max+len(d):
		s.stats.TooLong++
		s.skip = true
	}
}

// startStop handles frames between start and stop.
func (s *Scanner) startStop(b byte, emit func([]byte)) {
	if !s.inside {
		s.hunt(b)
		return
	}
	switch {
	case s.f.Escaped:
		s.escapes(b, emit)
		return
	case s.skip:
		s.buf = append(s.buf, b)
		if n := len(s.buf) - len(s.f.Stop); n > 0 {
			s.stats.Garbage += uint64(n)
			s.buf = append(s.buf[:0], s.buf[n:]...)
		}
		if bytes.Equal(s.buf, s.f.Stop) {
			s.between()
		}
		return
	}
	s.buf = append(s.buf, b)
	if bytes.HasSuffix(s.buf, s.f.Stop) {
		s.finish(s.buf[:len(s.buf)-len(s.f.Stop)], emit)
		s.between()
		return
	}
	if len(s.buf) >= s.f.Max+len(s.f.Stop) {
		s.stats.TooLong++
		s.skip = true
	}
}

// hunt looks for the start; buf holds what may be its beginning.
func (s *Scanner) hunt(b byte) {
	s.buf = append(s.buf, b)
	for len(s.buf) > 0 && !bytes.HasPrefix(s.f.Start, s.buf) {
		s.stats.Garbage++
		s.buf = append(s.buf[:0], s.buf[1:]...)
	}
	if len(s.buf) == len(s.f.Start) {
		s.begin()
	}
}

func (s *Scanner) begin() {
	s.Reset()
	s.inside = true
}

// escapes handles a byte within an escaped frame.
func (s *Scanner) escapes(b byte, emit func([]byte)) {
	switch {
	case s.escaped:
		s.escaped = false
		switch {
		case s.f.dle() && b == s.f.Stop[1]:
			s.end(emit)
		case s.f.Start[0] == s.f.Escape && b == s.f.Start[1]: // the last frame's end was lost
			s.stats.Cut++
			s.stats.Garbage += uint64(len(s.buf))
			s.begin()
		case s.f.dle() && b == s.f.Escape:
			s.keep(b)
		case s.f.dle(): // an escape that means nothing: the frame is damaged
			s.stats.Cut++
			s.stats.Garbage += uint64(len(s.buf)) + 2
			s.Reset()
		default:
			s.keep(b ^ s.f.EscapeXor)
		}
	case b == s.f.Escape:
		s.escaped = true
	case !s.f.dle() && b == s.f.Stop[0]:
		s.end(emit)
	case s.f.Start[0] != s.f.Escape && !s.f.dle() && b == s.f.Start[0]: // never within a frame
		s.stats.Garbage += uint64(len(s.buf))
		s.begin()
	default:
		s.keep(b)
	}
}

// end ends an escaped frame.
func (s *Scanner) end(emit func([]byte)) {
	if !s.skip {
		s.finish(s.buf, emit)
	}
	s.between()
}

// between is the state after a frame. Where start and stop are the same, a stop may be the next frame's start: whoever came in the
// middle of a frame would otherwise take what is between frames for frames for ever.
func (s *Scanner) between() {
	s.Reset()
	s.inside = bytes.Equal(s.f.Start, s.f.Stop)
}

func (s *Scanner) slip(b byte, emit func([]byte)) {
	switch {
	case b == slipEnd:
		if len(s.buf) > 0 && !s.skip && !s.escaped {
			s.finish(s.buf, emit)
		}
		s.Reset()
	case s.escaped:
		s.escaped = false
		switch b {
		case slipEscEnd:
			s.keep(slipEnd)
		case slipEscEsc:
			s.keep(slipEsc)
		default: // RFC 1055 leaves it open; a frame that breaks the rules is damaged
			s.stats.Cut++
			s.stats.Garbage += uint64(len(s.buf)) + 2
			s.buf, s.skip = s.buf[:0], true
		}
	case b == slipEsc:
		s.escaped = true
	default:
		s.keep(b)
	}
}
