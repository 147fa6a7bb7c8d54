package modbusslave

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Registers is how many registers each table has. All units share them.
const Registers = 65536

// Options configure a Slave.
type Options struct {
	// Change is the share of the float32 values in registers 0 to Changing-1 that get another value with each Tick; a different part
	// of them each time.
	Change float64
	// Changing is how many registers, from 0 on, hold values that change.
	Changing int
}

// Write is one write request that the slave has carried out.
type Write struct {
	At       time.Time // when its last byte had been read
	Unit     byte
	Addr     uint16
	Quantity uint16
}

// Slave is the slave.
type Slave struct {
	opt      Options
	requests atomic.Int64
	points   atomic.Int64 // registers that were read

	mu     sync.RWMutex
	regs   [2 * Registers]byte // holding and input registers, as on the wire
	bits   [Registers]bool     // coils and discrete inputs
	next   int                 // where the next Tick goes on
	round  float32
	writes []Write
	silent [256]bool
}

// maxWrites bounds what nobody takes.
const maxWrites = 100_000

// New makes a slave whose register pairs are float32 values: 2i and 2i+1 hold i.
func New(o Options) *Slave {
	s := &Slave{opt: o}
	for i := range Registers / 2 {
		binary.BigEndian.PutUint32(s.regs[4*i:], math.Float32bits(float32(i)))
	}
	return s
}

// Tick changes values, as Options say.
func (s *Slave) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := s.opt.Changing / 2
	for range int(float64(values) * s.opt.Change) {
		if s.next++; s.next >= values {
			s.next, s.round = 0, s.round+0.5
		}
		binary.BigEndian.PutUint32(s.regs[4*s.next:], math.Float32bits(float32(s.next)+s.round))
	}
}

// SetSilent makes a unit not answer.
func (s *Slave) SetSilent(unit byte, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent[unit] = on
}

// Requests returns how many requests were answered, and how many registers and bits were read by them.
func (s *Slave) Requests() (requests, read int64) { return s.requests.Load(), s.points.Load() }

// TakeWrites returns the writes since the last call, in the order in which they came.
func (s *Slave) TakeWrites() []Write {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.writes
	s.writes = nil
	return out
}

// Exceptions (Application Protocol V1.1b3, section 7).
const (
	illegalFunction = 1
	illegalAddress  = 2
	illegalValue    = 3
)

// Answer appends the PDU of the reply to a request's PDU to dst. It appends nothing for a unit that is silent.
func (s *Slave) Answer(dst []byte, unit byte, pdu []byte) []byte {
	if len(pdu) < 5 {
		return append(dst, pdu[0]|0x80, illegalValue)
	}
	fc, addr, n := pdu[0], int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	s.requests.Add(1)
	switch fc {
	case 1, 2, 3, 4:
		s.mu.RLock()
		defer s.mu.RUnlock()
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	switch {
	case s.silent[unit]:
		return dst
	case fc <= 4 && (n == 0 || n > 2000 || fc > 2 && n > 125):
		return append(dst, fc|0x80, illegalValue)
	case (fc <= 4 || fc >= 15) && addr+n > Registers:
		return append(dst, fc|0x80, illegalAddress)
	}
	switch fc {
	case 1, 2:
		s.points.Add(int64(n))
		return s.readBits(dst, fc, addr, n)
	case 3, 4:
		s.points.Add(int64(n))
		return append(append(dst, fc, byte(2*n)), s.regs[2*addr:2*(addr+n)]...)
	case 5, 6, 15, 16:
		return s.write(dst, unit, pdu, addr, n)
	}
	return append(dst, fc|0x80, illegalFunction)
}

func (s *Slave) readBits(dst []byte, fc byte, addr, n int) []byte {
	dst = append(dst, fc, byte((n+7)/8))
	at := len(dst)
	for i := range n {
		if i%8 == 0 {
			dst = append(dst, 0)
		}
		if s.bits[addr+i] {
			dst[at+i/8] |= 1 << (i % 8)
		}
	}
	return dst
}

func (s *Slave) write(dst []byte, unit byte, pdu []byte, addr, n int) []byte {
	switch fc := pdu[0]; {
	case fc == 5:
		s.bits[addr], n = n != 0, 1
	case fc == 6:
		copy(s.regs[2*addr:], pdu[3:5])
		n = 1
	case len(pdu) < 6 || len(pdu) != 6+int(pdu[5]) || fc == 16 && int(pdu[5]) != 2*n || fc == 15 && int(pdu[5]) != (n+7)/8:
		return append(dst, fc|0x80, illegalValue)
	case fc == 15:
		for i := range n {
			s.bits[addr+i] = pdu[6+i/8]>>(i%8)&1 == 1
		}
	default:
		copy(s.regs[2*addr:], pdu[6:])
	}
	if len(s.writes) < maxWrites {
		s.writes = append(s.writes, Write{At: time.Now(), Unit: unit, Addr: uint16(addr), Quantity: uint16(n)})
	}
	return append(dst, pdu[:5]...)
}

// Serve answers Modbus TCP on all connections of a listener until it is closed.
func (s *Slave) Serve(ln net.Listener) error {
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			_ = c.Close()
		}
	}()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		conns[c] = true
		mu.Unlock()
		wg.Go(func() {
			s.serve(c)
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
			_ = c.Close()
		})
	}
}

const headerSize = 7

// serve answers what has arrived with one write.
func (s *Slave) serve(c io.ReadWriter) {
	in, out := make([]byte, 0, 4096), make([]byte, 0, 4096)
	for {
		n, err := c.Read(in[len(in):cap(in)])
		if err != nil {
			return
		}
		in = in[:len(in)+n]
		out = out[:0]
		rest := in
		for len(rest) >= headerSize {
			size := 6 + int(binary.BigEndian.Uint16(rest[4:]))
			if size < headerSize+1 || size > headerSize+253 {
				return
			}
			if len(rest) < size {
				break
			}
			at := len(out)
			out = append(out, rest[:headerSize]...)
			out = s.Answer(out, rest[6], rest[headerSize:size])
			if len(out) == at+headerSize {
				out = out[:at]
			} else {
				binary.BigEndian.PutUint16(out[at+4:], uint16(len(out)-at-6))
			}
			rest = rest[size:]
		}
		in = in[:copy(in[:cap(in)], rest)]
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}
