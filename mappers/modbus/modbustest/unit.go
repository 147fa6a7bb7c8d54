package modbustest

import "encoding/binary"

// with changes the unit under the server's lock.
func (u *Unit) with(f func()) {
	u.srv.mu.Lock()
	defer u.srv.mu.Unlock()
	f()
}

// SetHolding sets holding registers from addr on.
func (u *Unit) SetHolding(addr uint16, v ...uint16) {
	u.with(func() {
		for i, x := range v {
			u.holding[addr+uint16(i)] = x
		}
	})
}

// Holding returns a holding register.
func (u *Unit) Holding(addr uint16) (v uint16) {
	u.with(func() { v = u.holding[addr] })
	return v
}

// SetInput sets input registers from addr on.
func (u *Unit) SetInput(addr uint16, v ...uint16) {
	u.with(func() {
		for i, x := range v {
			u.input[addr+uint16(i)] = x
		}
	})
}

// SetCoil sets a coil.
func (u *Unit) SetCoil(addr uint16, v bool) { u.with(func() { u.coils[addr] = v }) }

// Coil returns a coil.
func (u *Unit) Coil(addr uint16) (v bool) {
	u.with(func() { v = u.coils[addr] })
	return v
}

// SetDiscrete sets a discrete input.
func (u *Unit) SetDiscrete(addr uint16, v bool) { u.with(func() { u.discrete[addr] = v }) }

// SetLimit makes addresses from n on unknown to the unit.
func (u *Unit) SetLimit(n int) { u.with(func() { u.limit = n }) }

// SetException makes the unit refuse everything with a code; 0 ends that.
func (u *Unit) SetException(code byte) { u.with(func() { u.exc = code }) }

// SetSilent makes the unit not answer, as one that is switched off behind a gateway.
func (u *Unit) SetSilent(on bool) { u.with(func() { u.silent = on }) }

// SetNoSingle makes the unit refuse FC 5 and 6.
func (u *Unit) SetNoSingle(on bool) { u.with(func() { u.noSingle = on }) }

// SetBusy makes the unit answer the next n requests with exception 6.
func (u *Unit) SetBusy(n int) { u.with(func() { u.busy = n }) }

// SetSlow makes the unit carry out the next n writes and answer them with exception 5, acknowledge.
func (u *Unit) SetSlow(n int) { u.with(func() { u.slow = n }) }

// SetNoMask makes the unit refuse FC 22, 23 and 43.
func (u *Unit) SetNoMask(on bool) { u.with(func() { u.noMask = on }) }

// SetNoMany makes the unit refuse FC 15 and 16.
func (u *Unit) SetNoMany(on bool) { u.with(func() { u.noMany = on }) }

// SetMost makes the unit answer FC 16 for more than n registers with an exception; code 0: with nothing. 0x0B is what a gateway says then.
func (u *Unit) SetMost(n int, code byte) { u.with(func() { u.most, u.tooMany = n, code }) }

// SetHole makes a holding register unreadable, or readable again.
func (u *Unit) SetHole(addr uint16, on bool) { u.with(func() { u.holes[addr] = on }) }

// SetFaults asks f for the fault of each of the unit's replies, instead of Misbehave's; f is called with the server's lock held.
func (u *Unit) SetFaults(f func() Fault) { u.with(func() { u.faults = f }) }

// Asked returns how many requests came for the unit.
func (u *Unit) Asked() (n int) {
	u.with(func() { n = u.asked })
	return n
}

// SetStuck makes the unit accept writes without changing anything.
func (u *Unit) SetStuck(on bool) { u.with(func() { u.stuck = on }) }

// answer serves a request; nil means no reply. The server's lock is held.
func (s *Server) answer(id byte, pdu []byte) []byte {
	if pdu[0] == 43 {
		return s.identify(id, pdu)
	}
	if len(pdu) < 5 {
		return []byte{pdu[0] | 0x80, 3}
	}
	fc, addr, n := pdu[0], binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
	s.log = append(s.log, Request{Unit: id, Function: fc, Addr: addr, Quantity: n})
	if u := s.units[id]; u != nil {
		u.asked++
	}
	if id == 0 && s.framing != MBAP {
		for _, u := range s.units { // a broadcast
			u.write(fc, addr, int(n), pdu)
		}
		return nil
	}
	u := s.units[id]
	if u == nil || u.silent {
		return nil
	}
	quantity := int(n)
	if fc == 5 || fc == 6 || fc == 22 {
		quantity = 1
	}
	switch {
	case u.exc != 0:
		return []byte{fc | 0x80, u.exc}
	case u.noSingle && (fc == 5 || fc == 6):
		return []byte{fc | 0x80, 1}
	case u.busy > 0:
		u.busy--
		return []byte{fc | 0x80, 6}
	case u.slow > 0 && fc > 4:
		u.slow--
		u.write(fc, addr, quantity, pdu)
		return []byte{fc | 0x80, 5}
	case u.noMask && (fc == 22 || fc == 23):
		return []byte{fc | 0x80, 1}
	case u.noMany && (fc == 15 || fc == 16):
		return []byte{fc | 0x80, 1}
	case u.most > 0 && fc == 16 && quantity > u.most && u.tooMany == 0:
		return nil
	case u.most > 0 && fc == 16 && quantity > u.most:
		return []byte{fc | 0x80, u.tooMany}
	case u.missing(fc, addr, quantity):
		return []byte{fc | 0x80, 2}
	case int(addr)+quantity > u.limit:
		return []byte{fc | 0x80, 2}
	}
	switch fc {
	case 1:
		return bits(fc, u.coils, addr, quantity)
	case 2:
		return bits(fc, u.discrete, addr, quantity)
	case 3:
		return words(fc, u.holding, addr, quantity)
	case 4:
		return words(fc, u.input, addr, quantity)
	}
	if !u.stuck {
		u.write(fc, addr, quantity, pdu)
	}
	switch fc {
	case 22:
		return append([]byte(nil), pdu...)
	case 23:
		return words(fc, u.holding, addr, quantity)
	}
	return append([]byte(nil), pdu[:5]...)
}

// missing tells that the request touches a hole.
func (u *Unit) missing(fc byte, addr uint16, quantity int) bool {
	for a := range quantity {
		if fc == 3 && u.holes[addr+uint16(a)] {
			return true
		}
	}
	return false
}

// identify serves FC 43/14 with three objects, the last of which comes in a second reply.
func (s *Server) identify(id byte, pdu []byte) []byte {
	s.log = append(s.log, Request{Unit: id, Function: 43})
	u := s.units[id]
	switch {
	case u == nil || u.silent:
		return nil
	case len(pdu) < 4 || u.noMask:
		return []byte{43 | 0x80, 1}
	case pdu[3] < 2:
		return append([]byte{43, 14, pdu[2], 1, 0xFF, 2, 2, 0, 5}, "Acme!\x01\x02P7"...)
	}
	return append([]byte{43, 14, pdu[2], 1, 0, 0, 1, 2, 3}, "1.2"...)
}

func (u *Unit) write(fc byte, addr uint16, quantity int, pdu []byte) {
	switch fc {
	case 5:
		u.coils[addr] = pdu[3] == 0xFF
	case 6:
		u.holding[addr] = binary.BigEndian.Uint16(pdu[3:])
	case 22:
		and, or := binary.BigEndian.Uint16(pdu[3:]), binary.BigEndian.Uint16(pdu[5:])
		u.holding[addr] = u.holding[addr]&and | or&^and
	case 23:
		at, n := binary.BigEndian.Uint16(pdu[5:]), binary.BigEndian.Uint16(pdu[7:])
		for i := range int(n) {
			u.holding[at+uint16(i)] = binary.BigEndian.Uint16(pdu[10+2*i:])
		}
	case 15:
		for i := range quantity {
			u.coils[addr+uint16(i)] = pdu[6+i/8]>>(i%8)&1 == 1
		}
	case 16:
		for i := range quantity {
			u.holding[addr+uint16(i)] = binary.BigEndian.Uint16(pdu[6+2*i:])
		}
	}
}

func bits(fc byte, m map[uint16]bool, addr uint16, n int) []byte {
	if n < 1 || n > 2000 {
		return []byte{fc | 0x80, 3}
	}
	out := make([]byte, 2+(n+7)/8)
	out[0], out[1] = fc, byte(len(out)-2)
	for i := range n {
		if m[addr+uint16(i)] {
			out[2+i/8] |= 1 << (i % 8)
		}
	}
	return out
}

func words(fc byte, m map[uint16]uint16, addr uint16, n int) []byte {
	if n < 1 || n > 125 {
		return []byte{fc | 0x80, 3}
	}
	out := []byte{fc, byte(2 * n)}
	for i := range n {
		out = binary.BigEndian.AppendUint16(out, m[addr+uint16(i)])
	}
	return out
}
