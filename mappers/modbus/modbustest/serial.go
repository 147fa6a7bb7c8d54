package modbustest

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/goburrow/modbus"
)

// Framing is how requests and replies are packed.
type Framing uint8

// The framings.
const (
	MBAP Framing = iota // of TCP
	RTU
	ASCII
)

// SetFraming sets the framing of connections that are accepted from now on.
func (s *Server) SetFraming(f Framing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.framing = f
}

// packager packs and unpacks frames: goburrow's, so that it is not the driver's own code that checks the driver.
type packager interface {
	Encode(pdu *modbus.ProtocolDataUnit) ([]byte, error)
	Decode(adu []byte) (*modbus.ProtocolDataUnit, error)
}

func (f Framing) packager(unit byte) packager {
	if f == ASCII {
		h := new(modbus.ASCIIClientHandler)
		h.SlaveId = unit
		return h
	}
	h := new(modbus.RTUClientHandler)
	h.SlaveId = unit
	return h
}

// Serve answers requests on a line until it ends, as all units at once.
func (s *Server) Serve(rw io.ReadWriter, f Framing) {
	s.SetFraming(f)
	var wg sync.WaitGroup
	defer wg.Wait()
	r := bufio.NewReader(rw)
	for {
		unit, frame, err := f.request(r)
		if err != nil {
			return
		}
		in, err := f.packager(unit).Decode(frame)
		if err != nil {
			continue // a slave says nothing to what it does not understand
		}
		s.mu.Lock()
		reply := s.answer(unit, append([]byte{in.FunctionCode}, in.Data...))
		fault, delay := s.faultOf(unit), s.delay
		s.mu.Unlock()
		switch {
		case reply == nil:
		case fault == Late: // other units of the line go on meanwhile
			wg.Go(func() { s.sendSerial(rw, f, unit, reply, fault, delay) })
		case !s.sendSerial(rw, f, unit, reply, fault, delay):
			return
		}
	}
}

// request reads one request.
func (f Framing) request(r *bufio.Reader) (unit byte, frame []byte, err error) {
	if f == ASCII {
		frame, err = r.ReadBytes('\n')
		if err != nil || len(frame) < 3 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		return unhex(frame[1])<<4 | unhex(frame[2]), frame, nil
	}
	head, err := r.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	n := map[byte]int{22: 10, 43: 7}[head[1]]
	switch head[1] {
	case 15, 16:
		if head, err = r.Peek(7); err != nil {
			return 0, nil, err
		}
		n = 9 + int(head[6])
	case 23:
		if head, err = r.Peek(11); err != nil {
			return 0, nil, err
		}
		n = 13 + int(head[10])
	default:
		if n == 0 {
			n = 8
		}
	}
	frame = make([]byte, n)
	_, err = io.ReadFull(r, frame)
	return frame[0], frame, err
}

func unhex(c byte) byte {
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// sendSerial sends a reply with a fault in it; false ends the line.
func (s *Server) sendSerial(w io.Writer, f Framing, unit byte, pdu []byte, fault Fault, delay time.Duration) bool {
	pdu = spoil(pdu, fault)
	before := unit
	if fault == WrongUnit {
		unit++
	}
	out, err := f.packager(unit).Encode(&modbus.ProtocolDataUnit{FunctionCode: pdu[0], Data: pdu[1:]})
	if err != nil {
		return false
	}
	switch fault {
	case BadSum:
		at := len(out) - 3 // the last of the LRC's digits; with RTU the last byte of data
		if out[at]++; f == ASCII && out[at] != '1' {
			out[at] = '0' // still a digit
		}
	case Noise:
		out = append([]byte{0x00, 0xFF, 0x80}, out...)
	case Late:
		time.Sleep(delay)
	case Silent:
		return true
	case Hangup:
		return false
	case Duplicate:
		out = append(out, out...)
	case Garbage:
		out = []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
	case Endless:
		for {
			if _, err := w.Write(binary.BigEndian.AppendUint64(nil, 0xAA55AA55AA55AA55)); err != nil {
				return false
			}
			time.Sleep(100 * time.Microsecond)
		}
	case ByteWise:
		for i := range out {
			time.Sleep(2 * time.Millisecond)
			if _, err := w.Write(out[i : i+1]); err != nil {
				return false
			}
		}
		return true
	case None, WrongTransaction, WrongUnit, WrongFunction, WrongProtocol, ShortData, LongData, WrongCount, HugeLength, ZeroLength, WrongEcho, Truncated, Stale, Random, Babble:
		out = s.distort(before, out, fault)
	}
	_, err = w.Write(out)
	return err == nil
}
