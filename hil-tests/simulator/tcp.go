package simulator

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

// mbapSize is the size of the header of Modbus TCP (Messaging on TCP/IP V1.0b, section 3.1.3).
const mbapSize = 7

// serveTCP accepts connections until the listener is closed.
func (s *Simulator) serveTCP(ln net.Listener, units map[byte]*Device) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Error("the simulator accepts no more connections", "address", ln.Addr(), "err", err)
			}
			return
		}
		if !s.hold(conn) {
			_ = conn.Close()
			return
		}
		s.work.Go(func() {
			defer s.drop(conn)
			s.talk(conn, units)
		})
	}
}

// talk answers one connection's requests, one at a time as small devices do.
func (s *Simulator) talk(conn net.Conn, units map[byte]*Device) {
	buf := make([]byte, 300)
	for {
		if _, err := io.ReadFull(conn, buf[:mbapSize]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint16(buf[4:])) - 1
		if binary.BigEndian.Uint16(buf[2:]) != 0 || size < 1 || size > 253 {
			return // not Modbus: a device closes the connection
		}
		if _, err := io.ReadFull(conn, buf[mbapSize:mbapSize+size]); err != nil {
			return
		}
		unit := units[buf[6]]
		if unit == nil {
			continue
		}
		reply, late := unit.answer(buf[mbapSize : mbapSize+size])
		if reply == nil || !s.sleep(late) {
			continue
		}
		out := append(make([]byte, 0, mbapSize+len(reply)), buf[:mbapSize]...)
		binary.BigEndian.PutUint16(out[4:], uint16(len(reply)+1))
		if _, err := conn.Write(append(out, reply...)); err != nil {
			return
		}
	}
}

// sleep waits; false if the simulator ends meanwhile.
func (s *Simulator) sleep(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
