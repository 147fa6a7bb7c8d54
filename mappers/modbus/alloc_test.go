package modbus

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// echoConn answers reads of registers by itself and allocates nothing, so that only the driver's own allocations are counted.
type echoConn struct {
	net.Conn // nil: what is not overridden is not used
	out      [1024]byte
	n        int
	requests int
}

func (c *echoConn) Write(p []byte) (int, error) {
	quantity := int(binary.BigEndian.Uint16(p[10:]))
	b := c.out[c.n:]
	copy(b, p[:8])
	binary.BigEndian.PutUint16(b[4:], uint16(3+2*quantity))
	b[8] = byte(2 * quantity)
	for i := range 2 * quantity {
		b[9+i] = byte(i)
	}
	c.n += 9 + 2*quantity
	c.requests++
	return len(p), nil
}

func (c *echoConn) Read(p []byte) (int, error) {
	if c.n == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, c.out[:c.n])
	c.n = copy(c.out[:], c.out[n:c.n])
	return n, nil
}
func (c *echoConn) SetDeadline(time.Time) error     { return nil }
func (c *echoConn) SetReadDeadline(time.Time) error { return nil }
func (c *echoConn) Close() error                    { return nil }

func (c *echoConn) DialContext(context.Context, string, string) (net.Conn, error) { return c, nil }

// polling opens a session with n float32 points in one piece, one for each request or grouped.
func polling(t testing.TB, n int, settings map[string]any) (device.Session, []device.Point, []device.Value, *echoConn) {
	t.Helper()
	conn := new(echoConn)
	d := New()
	d.dialer = conn
	data := map[string]any{"ip": "10.0.0.1"}
	for k, v := range settings {
		data[k] = v
	}
	s, err := d.Open(context.Background(), device.Config{Device: "ns/dev", Protocol: data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	points := make([]device.Point, n)
	for i := range points {
		points[i] = compiled(t, device.TypeFloat, "offset", 2*i, "type", "float32")
	}
	return s, points, make([]device.Value, n), conn
}

// TestPollingAllocatesNothing in steady state, for all that numbers are laid out as.
func TestPollingAllocatesNothing(t *testing.T) {
	for name, settings := range map[string]map[string]any{"one at a time": nil, "pipelined": {"pipeline": 4, "maxRegisters": 40}} {
		s, points, values, conn := polling(t, 100, settings)
		for i, kv := range [][]any{{"type", "int64", "wordOrder", "CDAB"}, {"type", "uint16", "scale", 0.1}, {"type", "bool", "bit", 3}, {"type", "float16"}, {"type", "uint16", "mask", 0xF0, "shift", 4}, {"type", "fixed32"}} {
			model := device.TypeDouble
			if i == 2 {
				model = device.TypeBoolean
			}
			points = append(points, compiled(t, model, append(kv, "offset", 300+4*i)...))
		}
		values = append(values, make([]device.Value, len(points)-len(values))...)
		poll := func() {
			if err := s.Read(context.Background(), points, values); err != nil || values[7].Quality != device.Good || values[len(values)-1].Quality != device.Good {
				t.Fatal(err, values[7].Reason)
			}
		}
		poll()
		before := conn.requests
		if n := testing.AllocsPerRun(200, poll); n != 0 {
			t.Errorf("%s: %v allocations for each reading of %d points", name, n, len(points))
		}
		if got := (conn.requests - before) / 201; got < 3 || got > 15 {
			t.Errorf("%s: %d requests for each reading", name, got)
		}
	}
}

// BenchmarkPoll reads 1,000 float32 points, in 16 requests and in one for each.
func BenchmarkPoll(b *testing.B) {
	for name, settings := range map[string]map[string]any{"planned": nil, "onePerRequest": {"onePerRequest": true}} {
		b.Run(name, func(b *testing.B) {
			s, points, values, _ := polling(b, 1000, settings)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Read(context.Background(), points, values); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/point")
		})
	}
}

// TestCompilingIsCheap: a gateway compiles the points of all its devices whenever it starts.
func TestCompilingIsCheap(t *testing.T) {
	cfg := visitor("p", device.TypeFloat, true, "register", "HoldingRegister", "offset", 100, "type", "float32", "wordOrder", "CDAB", "scale", 0.1)
	d := New()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := d.Compile(cfg); err != nil {
			t.Fatal(err)
		}
	}); n > 12 {
		t.Errorf("%v allocations for a point", n)
	}
}

// TestPointsShareTheirLayouts, and a gateway whose points all differ keeps a bounded number of them.
func TestPointsShareTheirLayouts(t *testing.T) {
	d := New()
	at := func(kv ...any) *point {
		p, err := d.Compile(visitor("p", device.TypeFloat, false, append([]any{"register", "holding", "type", "float32"}, kv...)...))
		if err != nil {
			t.Fatal(err)
		}
		return p.(*point)
	}
	a, b, c := at("offset", 1), at("offset", 3), at("offset", 5, "wordOrder", "CDAB")
	if a.layout != b.layout || a.layout == c.layout || a.addr == b.addr {
		t.Errorf("%s, %s, %s", a, b, c)
	}
	for i := range 2 * maxLayouts {
		if p := at("offset", 1, "valueOffset", i+1); p.layout.add != float64(i+1) {
			t.Fatal(p)
		}
	}
	if n := len(d.layouts.known); n != maxLayouts {
		t.Errorf("%d layouts are kept", n)
	}
}
