// Package modbustest is a small Modbus server for tests, over TCP and over anything that carries RTU or ASCII, which can misbehave in the ways real devices and broken
// gateways do.
//
// # Usage
//
//	srv := modbustest.Start(t)           // loopback, a free port, closed with the test
//	srv.Unit(1).SetHolding(40, 0x1234)
//	srv.Misbehave(modbustest.WrongTransaction)
//
// # Concurrency
//
// All methods may be called concurrently.
//
// # Testing
//
// It is hand-written; the driver's conformance suite runs against it and against pymodbus, and both must pass.
package modbustest

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Fault is a misbehaviour of the server.
type Fault uint8

// The faults.
const (
	None             Fault = iota
	WrongTransaction       // the reply carries another transaction id
	WrongUnit              // another unit answers
	WrongFunction          // the reply is to another function
	WrongProtocol          // the protocol id is not 0
	ShortData              // one register too few, and the count agrees with it
	LongData               // one register too many, and the count agrees with it
	WrongCount             // the byte count differs from the data
	HugeLength             // the header announces 65,535 bytes
	ZeroLength             // the header announces no PDU
	WrongEcho              // the reply to a write repeats another value
	ByteWise               // correct, a byte every 2 ms
	Late                   // correct, after the delay of SetDelay
	Silent                 // no reply
	Hangup                 // the connection is closed instead of a reply
	Duplicate              // correct, twice
	Garbage                // not Modbus at all
	BadSum                 // RTU and ASCII: the checksum is wrong
	Noise                  // RTU and ASCII: correct, after a few bytes that mean nothing
	Endless                // bytes without an end
	Truncated              // the beginning of the reply, and nothing more
	Stale                  // the unit's reply before this one once more
	Random                 // up to 40 random bytes instead of the reply
	Babble                 // some hundred random bytes, and then the reply
)

// Unit is the memory of one unit. Addresses beyond Limit are refused with exception 2.
type Unit struct {
	srv      *Server
	coils    map[uint16]bool
	discrete map[uint16]bool
	input    map[uint16]uint16
	holding  map[uint16]uint16
	limit    int
	exc      byte
	silent   bool
	noSingle bool
	stuck    bool
	noMask   bool
	noMany   bool
	most     int  // registers that FC 16 writes; 0: as many as there are
	tooMany  byte // the exception that says so; 0: none, it is silent
	busy     int
	slow     int
	holes    map[uint16]bool
	faults   func() Fault
	last     []byte // the frame that was sent last
	asked    int
}

// Server is the server.
type Server struct {
	t  testing.TB
	wg sync.WaitGroup

	mu       sync.Mutex
	addr     string
	ln       net.Listener
	conns    map[net.Conn]bool
	units    map[byte]*Unit
	fault    Fault
	delay    time.Duration
	accepted int
	log      []Request
	framing  Framing
	rand     *rand.Rand
}

// Request is one request as the server saw it.
type Request struct {
	Unit     byte
	Function byte
	Addr     uint16
	Quantity uint16 // of reads; the value of FC 5 and 6
}

// New makes a server that does not listen, for Serve.
func New(t testing.TB) *Server {
	return &Server{t: t, addr: "127.0.0.1:0", conns: make(map[net.Conn]bool), units: make(map[byte]*Unit), rand: rand.New(rand.NewPCG(1, 1))}
}

// Start listens on loopback until the test ends.
func Start(t testing.TB) *Server {
	s := New(t)
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// Addr returns host:port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Port returns the port.
func (s *Server) Port() int {
	a, err := net.ResolveTCPAddr("tcp", s.Addr())
	if err != nil {
		s.t.Fatalf("modbustest: %v", err)
	}
	return a.Port
}

// Unit returns the memory of a unit, which exists from then on. Other units do not answer.
func (s *Server) Unit(id byte) *Unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[id]
	if u == nil {
		u = &Unit{srv: s, coils: map[uint16]bool{}, discrete: map[uint16]bool{}, input: map[uint16]uint16{}, holding: map[uint16]uint16{}, holes: map[uint16]bool{}, limit: 65536}
		s.units[id] = u
	}
	return u
}

// Misbehave sets the fault for all replies from now on.
func (s *Server) Misbehave(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetDelay sets the delay of Late.
func (s *Server) SetDelay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Kill stops listening and breaks all connections.
func (s *Server) Kill() {
	s.mu.Lock()
	if s.ln != nil {
		_ = s.ln.Close()
		s.ln = nil
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Restart listens again, on the same port.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", s.addr)
	if err != nil {
		s.t.Fatalf("modbustest: %v", err)
	}
	s.ln, s.addr = ln, ln.Addr().String()
	s.wg.Add(1)
	go s.accept(ln)
}

// Accepted returns how many connections were accepted so far.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// TakeLog returns the requests seen since the last call.
func (s *Server) TakeLog() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log
	s.log = nil
	return l
}

func (s *Server) accept(ln net.Listener) {
	defer s.wg.Done()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ln != ln {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.conns[c] = true
		s.accepted++
		s.wg.Add(1)
		s.mu.Unlock()
		go s.serve(c)
	}
}

// ServeConn answers requests on a connection of the caller's until it ends, as all units at once.
func (s *Server) ServeConn(c net.Conn) {
	s.mu.Lock()
	s.conns[c] = true
	s.accepted++
	s.wg.Add(1)
	s.mu.Unlock()
	s.serve(c)
}

func (s *Server) serve(c net.Conn) {
	defer s.wg.Done()
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	s.mu.Lock()
	framing := s.framing
	s.mu.Unlock()
	if framing != MBAP {
		s.Serve(c, framing)
		return
	}
	for {
		head := make([]byte, 7)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		pdu := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
		if _, err := io.ReadFull(c, pdu); err != nil {
			return
		}
		s.mu.Lock()
		reply := s.answer(head[6], pdu)
		fault, delay := s.faultOf(head[6]), s.delay
		s.mu.Unlock()
		if reply == nil {
			continue
		}
		if !s.send(c, head, reply, fault, delay) {
			return
		}
	}
}

// spoil puts a fault into a reply.
func spoil(pdu []byte, fault Fault) []byte {
	switch fault {
	case WrongFunction:
		pdu[0]++
	case ShortData:
		pdu = pdu[:len(pdu)-2]
		pdu[1] -= 2
	case LongData:
		pdu = append(pdu, 0, 0)
		pdu[1] += 2
	case WrongCount:
		pdu[1] += 2
	case WrongEcho:
		pdu[len(pdu)-1] ^= 1
	case None, WrongTransaction, WrongUnit, WrongProtocol, HugeLength, ZeroLength, ByteWise, Late, Silent, Hangup, Duplicate, Garbage, BadSum, Noise, Endless, Truncated, Stale, Random, Babble:
	}
	return pdu
}

// faultOf is the fault of a unit's next reply. The lock is held.
func (s *Server) faultOf(id byte) Fault {
	if u := s.units[id]; u != nil && u.faults != nil {
		return u.faults()
	}
	return s.fault
}

// distort puts a fault into a frame that needs no other frame for it, and remembers the frame.
func (s *Server) distort(id byte, frame []byte, fault Fault) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[id]
	if u == nil {
		return frame
	}
	before := u.last
	u.last = append([]byte(nil), frame...)
	junk := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(s.rand.Uint32())
		}
		return b
	}
	switch {
	case fault == Truncated:
		return frame[:1+s.rand.IntN(len(frame)-1)]
	case fault == Stale && before != nil:
		return before
	case fault == Random:
		return junk(1 + s.rand.IntN(40))
	case fault == Babble:
		return append(junk(100+s.rand.IntN(300)), frame...)
	}
	return frame
}

// send sends a reply with a fault in it; false ends the connection.
func (s *Server) send(c net.Conn, head, pdu []byte, fault Fault, delay time.Duration) bool {
	head = append([]byte(nil), head...)
	pdu = spoil(pdu, fault)
	switch fault {
	case WrongTransaction:
		head[1] ^= 0x55
	case WrongUnit:
		head[6]++
	case WrongProtocol:
		head[3] = 9
	case Late:
		time.Sleep(delay)
	case Silent:
		return true
	case Hangup:
		return false
	case Garbage:
		_, err := c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		return err == nil
	case Endless:
		for {
			if _, err := c.Write(make([]byte, 512)); err != nil {
				return false
			}
		}
	case None, HugeLength, ZeroLength, ByteWise, Duplicate, WrongFunction, ShortData, LongData, WrongCount, WrongEcho, BadSum, Noise, Truncated, Stale, Random, Babble:
	}
	binary.BigEndian.PutUint16(head[4:], uint16(len(pdu)+1))
	switch fault {
	case HugeLength:
		binary.BigEndian.PutUint16(head[4:], 65535)
	case ZeroLength:
		binary.BigEndian.PutUint16(head[4:], 0)
	case Duplicate:
		if _, err := c.Write(append(append([]byte(nil), head...), pdu...)); err != nil {
			return false
		}
	}
	out := s.distort(head[6], append(head, pdu...), fault)
	if fault != ByteWise {
		_, err := c.Write(out)
		return err == nil
	}
	for i := range out {
		time.Sleep(2 * time.Millisecond)
		if _, err := c.Write(out[i : i+1]); err != nil {
			return false
		}
	}
	return true
}

// Open returns how many connections are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
