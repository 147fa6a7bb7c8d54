package modbus

import "time"

// grouping is which neighbours are written in one request.
type grouping uint8

const (
	groupAlike grouping = iota // those that are written with FC 16 anyway, unless the device has shown that it does not take several at a time
	groupNone
	groupAll
)

// grouped tells whether a value may go out together with its neighbours.
func (s *session) grouped(p *point) bool {
	switch {
	case s.config.broadcast || p.layout.partial():
		return false
	case s.config.grouping != groupAlike:
		return s.config.grouping == groupAll
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.table == holdingRegisters && (p.width > 1 || p.multiple) && !s.noGroup && !time.Now().Before(s.groups.until) && !s.config.mixed && !s.config.limits.single
}

// maxGroupDoubt bounds how long a device that has not answered to several values in one request gets them one by one.
const maxGroupDoubt = time.Hour

// groupDoubt is the suspicion that a device does not take several values in one request, and does not say so: it is silent, it hangs up, or a
// gateway says that it did not answer. It may as well have been off, so it is asked again after some time, which doubles while that does not help.
type groupDoubt struct {
	until time.Time
	wait  time.Duration
}

// doubtGroups notes that a request for several values came to nothing.
func (s *session) doubtGroups() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups.wait = min(max(s.config.holeRetry, 2*s.groups.wait), maxGroupDoubt)
	s.groups.until = time.Now().Add(s.groups.wait)
}

// trustGroups notes that one was carried out.
func (s *session) trustGroups() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = groupDoubt{}
}

// group tells how many of the first items go out in one request: those that lie one after the other in the table, in the order
// in which they were given.
func (s *session) group(items []written) int {
	first, end := items[0].point, items[0].point.end()
	if !s.grouped(first) {
		return 1
	}
	most := min(maxWriteRegisters, s.config.limits.registers)
	if first.table == coils {
		most = min(maxWriteBits, s.config.limits.bits)
	}
	for n, w := range items[1:] {
		p := w.point
		if p.table != first.table || int(p.addr) != end || p.end()-int(first.addr) > most || !s.grouped(p) || p.readBack != first.readBack {
			return n + 1
		}
		end = p.end()
	}
	return len(items)
}

// groupRequest writes neighbours in one request.
func groupRequest(items []written) *request {
	first := items[0].point
	var data []byte
	for i, w := range items {
		switch {
		case first.table != coils:
			data = append(data, w.data...)
		default:
			if i%8 == 0 {
				data = append(data, 0)
			}
			data[i/8] |= w.data[0] << (i % 8)
		}
	}
	return writeMany(first.table, first.addr, uint16(items[len(items)-1].point.end()-int(first.addr)), data)
}
