package frame

import "bytes"

// creditEach bounds the work for each received byte: how many bytes may be checked again in search of a frame. A stream that looks
// like the beginning of a long frame at every byte would otherwise cost its length for each of them.
const creditEach = 8

// cut takes as many frames of kind Fixed or Counted off the buffer as there are.
func (s *Scanner) cut(emit func([]byte)) {
	rest := s.buf
	for {
		rest = s.toStart(rest)
		n, ok := s.f.total(rest)
		if !ok {
			s.stats.TooLong++
			rest = s.drop(rest, s.f.Offset+s.f.Size)
			continue
		}
		if n == 0 || len(rest) < n {
			break
		}
		if s.finish(rest[:n], emit) {
			rest = rest[n:]
			continue
		}
		rest = s.drop(rest, n)
	}
	s.buf = append(s.buf[:0], rest...)
}

// total is how long the frame at the beginning of p is; 0 if that is not known yet, false if it cannot be one.
func (f *Format) total(p []byte) (int, bool) {
	if len(p) == 0 {
		return 0, true
	}
	if f.Kind == Fixed {
		return f.Length, true
	}
	head := f.Offset + f.Size
	if len(p) < head {
		return 0, true
	}
	n := int64(getUint(p[f.Offset:head], f.Little)) + int64(f.Adjust) + int64(head)
	if n < int64(head) || n > int64(f.Max) {
		return 0, false
	}
	return int(n), true
}

// toStart drops what stands before the next start, or before what may become one.
func (s *Scanner) toStart(p []byte) []byte {
	start := s.f.Start
	if len(start) == 0 {
		return p
	}
	if i := bytes.Index(p, start); i >= 0 {
		s.stats.Garbage += uint64(i)
		return p[i:]
	}
	for i := max(0, len(p)-len(start)+1); i <= len(p); i++ {
		if bytes.HasPrefix(start, p[i:]) {
			s.stats.Garbage += uint64(i)
			return p[i:]
		}
	}
	return nil
}

// drop gives up the frame at the beginning of p, which cost work bytes to look at, and returns where to look next: one byte further
// while there is credit for that, behind all that has been received if there is none.
func (s *Scanner) drop(p []byte, work int) []byte {
	if s.credit < work {
		s.stats.Garbage += uint64(len(p))
		return nil
	}
	s.credit -= work
	s.stats.Garbage++
	return p[1:]
}
