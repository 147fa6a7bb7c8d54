package modbusslave

import (
	"encoding/binary"
	"math"
	"net"
	"testing"

	"github.com/goburrow/modbus"
)

func TestAnswersAForeignClient(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Change: 0.5, Changing: 8})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	defer func() {
		_ = ln.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	h := modbus.NewTCPClientHandler(ln.Addr().String())
	h.SlaveId = 7
	defer func() { _ = h.Close() }()
	c := modbus.NewClient(h)
	value := func(i int) float32 {
		t.Helper()
		b, err := c.ReadHoldingRegisters(uint16(2*i), 2)
		if err != nil {
			t.Fatal(err)
		}
		return math.Float32frombits(binary.BigEndian.Uint32(b))
	}
	if v := value(1000); v != 1000 {
		t.Errorf("value 1000 is %v", v)
	}
	s.Tick()
	s.Tick()
	if a, b := value(1), value(4); a != 1.5 && a != 1 || b != 4 {
		t.Errorf("after two ticks: %v, and %v, which does not change", a, b)
	}
	if b, err := c.WriteMultipleRegisters(20, 2, []byte{1, 2, 3, 4}); err != nil || len(b) != 2 {
		t.Errorf("write: %v %v", b, err)
	}
	if b, err := c.WriteSingleRegister(30, 9); err != nil || len(b) != 2 {
		t.Errorf("write: %v %v", b, err)
	}
	if b, err := c.WriteMultipleCoils(3, 10, []byte{0xFF, 3}); err != nil || len(b) != 2 {
		t.Errorf("write: %v %v", b, err)
	}
	if b, err := c.ReadCoils(2, 11); err != nil || b[0] != 0xFE || b[1] != 7 {
		t.Errorf("coils: %v %v", b, err)
	}
	if b, err := c.ReadInputRegisters(20, 2); err != nil || binary.BigEndian.Uint32(b) != 0x01020304 {
		t.Errorf("written: %v %v", b, err)
	}
	w := s.TakeWrites()
	if len(w) != 3 || w[0].Addr != 20 || w[0].Quantity != 2 || w[0].Unit != 7 || w[1].Addr != 30 || w[2].Quantity != 10 {
		t.Errorf("writes: %+v", w)
	}
	if _, err := c.ReadHoldingRegisters(65535, 2); err == nil {
		t.Error("beyond the last register")
	}
}

func TestAnswersWithoutAllocating(t *testing.T) {
	s := New(Options{})
	pdu, out := []byte{3, 0, 0, 0, 125}, make([]byte, 0, 300)
	if n := testing.AllocsPerRun(100, func() { out = s.Answer(out[:0], 1, pdu) }); n != 0 || len(out) != 252 {
		t.Errorf("%v allocations, %d bytes", n, len(out))
	}
	s.SetSilent(1, true)
	if out := s.Answer(nil, 1, pdu); out != nil {
		t.Errorf("a silent unit says % x", out)
	}
}
