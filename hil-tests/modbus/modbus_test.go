//go:build integration

package modbus

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/modbuspeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus"
)

func start(t *testing.T) *modbuspeer.Peer {
	t.Helper()
	p, err := modbuspeer.Start(t.Context(), modbuspeer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop the peer: %v", err)
		}
	})
	return p
}

func config(p *modbuspeer.Peer, unit int) device.Config {
	return device.Config{Device: "ns/dev", Protocol: map[string]any{"ip": "127.0.0.1", "port": int64(p.Port()), "slaveID": unit, "timeout": 500}}
}

func point(typ device.Type, writable bool, kv ...any) device.PointConfig {
	m := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return device.PointConfig{Property: "p", Path: "visitors.configData", Type: typ, Writable: writable, Visitor: m}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestConformance(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		p := start(t)
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		killed := false
		return devicetest.Subject{
			Driver: modbus.New(), Config: config(p, 1),
			Read: []device.PointConfig{
				point(device.TypeFloat, false, "register", "InputRegister", "offset", 2, "limit", 2),
				point(device.TypeBoolean, false, "register", "discrete", "offset", 1),
				point(device.TypeInt, false, "register", "input", "offset", 6, "type", "int32"),
			},
			Write:  point(device.TypeInt, true, "register", "HoldingRegister", "offset", 20, "limit", 2),
			Values: [2]device.Value{device.Int(-70000), device.Int(12)},
			Kill: func() {
				killed = true
				check(p.Kill())
			},
			Hang: func() { check(p.Pause()) },
			Revive: func() {
				if killed {
					check(p.Restart(context.WithoutCancel(t.Context())))
				} else {
					check(p.Resume())
				}
			},
			Recovery:    15 * time.Second,
			BadConfigs:  []devicetest.Bad{{Name: "no ip", Data: nil, Field: "ip"}},
			BadVisitors: []devicetest.Bad{{Name: "no offset", Data: map[string]any{"register": "coil"}, Field: "offset"}},
		}
	})
}

// TestTypesRoundTrip writes every type in every order, and asks the device over another client what it then holds.
func TestTypesRoundTrip(t *testing.T) {
	p := start(t)
	d := modbus.New()
	s := devicetest.Open(t, d, config(p, 2))
	for i, c := range []struct {
		typ    string
		order  string
		model  device.Type
		value  device.Value
		onWire []uint16
	}{
		{"int16", "ABCD", device.TypeInt, device.Int(-2), []uint16{0xFFFE}},
		{"int16", "BADC", device.TypeInt, device.Int(-2), []uint16{0xFEFF}},
		{"uint16", "ABCD", device.TypeInt, device.Int(65534), []uint16{0xFFFE}},
		{"int32", "ABCD", device.TypeInt, device.Int(-2), []uint16{0xFFFF, 0xFFFE}},
		{"int32", "CDAB", device.TypeInt, device.Int(0x12345678), []uint16{0x5678, 0x1234}},
		{"int32", "BADC", device.TypeInt, device.Int(0x12345678), []uint16{0x3412, 0x7856}},
		{"int32", "DCBA", device.TypeInt, device.Int(0x12345678), []uint16{0x7856, 0x3412}},
		{"uint32", "ABCD", device.TypeInt, device.Int(0xFFFFFFFE), []uint16{0xFFFF, 0xFFFE}},
		{"float32", "ABCD", device.TypeFloat, device.Float32(21.5), []uint16{0x41AC, 0}},
		{"float32", "CDAB", device.TypeFloat, device.Float32(-21.5), []uint16{0, 0xC1AC}},
		{"int64", "ABCD", device.TypeInt, device.Int(-3), []uint16{0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD}},
		{"uint64", "CDAB", device.TypeInt, device.Uint(1 << 63), []uint16{0, 0, 0, 0x8000}},
		{"float64", "ABCD", device.TypeDouble, device.Float(21.5), []uint16{0x4035, 0x8000, 0, 0}},
		{"bool", "ABCD", device.TypeBoolean, device.Bool(true), []uint16{1}},
	} {
		addr := 4 * i
		pts := devicetest.Compile(t, d, point(c.model, true, "register", "holding", "offset", addr, "type", c.typ, "wordOrder", c.order))
		res := s.Write(t.Context(), []device.Write{{Point: pts[0], Value: c.value}})[0]
		if res.Err != nil || !res.Verified || res.Readback.Text() != c.value.Text() {
			t.Errorf("%s %s: %+v", c.typ, c.order, res)
		}
		got := must[[]uint16](t)(p.Holding(t.Context(), 2, uint16(addr), uint16(len(c.onWire))))
		for j := range got {
			if got[j] != c.onWire[j] {
				t.Errorf("%s %s: the device holds %#x, want %#x", c.typ, c.order, got, c.onWire)
				break
			}
		}
	}
	coil := devicetest.Compile(t, d, point(device.TypeBoolean, true, "register", "CoilRegister", "offset", 5, "limit", 1))
	res := s.Write(t.Context(), []device.Write{{Point: coil[0], Value: device.Bool(true)}})[0]
	if res.Err != nil || !res.Verified || !must[bool](t)(p.Coil(t.Context(), 2, 5)) {
		t.Errorf("coil: %+v", res)
	}
	scaled := devicetest.Compile(t, d, point(device.TypeFloat, true, "register", "holding", "offset", 100, "limit", 1, "scale", 0.1))
	res = s.Write(t.Context(), []device.Write{{Point: scaled[0], Value: device.Float32(-12.3)}})[0]
	if got := must[[]uint16](t)(p.Holding(t.Context(), 2, 100, 1)); res.Err != nil || got[0] != 0xFF85 {
		t.Errorf("scaled: %+v, the device holds %#x", res, got)
	}
}

func TestValuesChangeByThemselves(t *testing.T) {
	p := start(t)
	d := modbus.New()
	s := devicetest.Open(t, d, config(p, 3))
	pts := devicetest.Compile(t, d,
		point(device.TypeInt, false, "register", "InputRegister", "offset", 0, "limit", 1),
		point(device.TypeInt, false, "register", "InputRegister", "offset", 1, "limit", 1),
		point(device.TypeFloat, false, "register", "InputRegister", "offset", 2, "limit", 2),
		point(device.TypeFloat, false, "register", "InputRegister", "offset", 4, "limit", 2, "isRegisterSwap", "true"),
		point(device.TypeInt, false, "register", "InputRegister", "offset", 6, "limit", 2),
		point(device.TypeBoolean, false, "register", "DiscreteInputRegister", "offset", 0, "limit", 1),
	)
	seen := make([]map[string]bool, len(pts))
	for i := range seen {
		seen[i] = map[string]bool{}
	}
	before := must[int64](t)(p.Requests(t.Context()))
	rounds := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		values := make([]device.Value, len(pts))
		if err := s.Read(t.Context(), pts, values); err != nil {
			t.Fatal(err)
		}
		rounds++
		for i, v := range values {
			if v.Quality != device.Good {
				t.Fatalf("%s: %s", pts[i], v.Reason)
			}
			seen[i][v.Text()] = true
		}
		if n := values[1].AsInt(); n >= 0 || n < -100 {
			t.Errorf("the negative int16 is %d", n)
		}
		if f := values[2].AsFloat(); f < 17.9 || f > 24.1 || !values[2].Same(values[3]) {
			t.Errorf("temperature %s, word-swapped %s", values[2].Text(), values[3].Text())
		}
		if values[4].AsInt() != -100000-values[0].AsInt() {
			t.Errorf("int32 %s beside counter %s: neighbours were not read in one request", values[4].Text(), values[0].Text())
		}
	}
	for i, s := range seen {
		if len(s) < 2 {
			t.Errorf("%s does not change", pts[i])
		}
	}
	// Six points of two tables: two requests a round.
	if got := must[int64](t)(p.Requests(t.Context())) - before; got < int64(2*rounds) || got > int64(2*rounds+2) {
		t.Errorf("%d requests in %d rounds", got, rounds)
	}
}

func TestExceptionsAreInWords(t *testing.T) {
	p := start(t)
	d := modbus.New()
	s := devicetest.Open(t, d, config(p, 1))
	pts := devicetest.Compile(t, d,
		point(device.TypeInt, true, "register", "holding", "offset", 199, "type", "int16"),
		point(device.TypeInt, true, "register", "holding", "offset", 200, "type", "int16"),
	)
	values := make([]device.Value, 2)
	if err := s.Read(t.Context(), pts, values); err != nil {
		t.Fatal(err)
	}
	if values[0].Quality != device.Good {
		t.Errorf("the good neighbour of a refused register: %s", values[0].Reason)
	}
	const want = "illegal data address (2): read holding register 200: the device has no such address; check offset, limit and type"
	if values[1].Reason != want {
		t.Errorf("got %q", values[1].Reason)
	}
	res := s.Write(t.Context(), []device.Write{{Point: pts[1], Value: device.Int(1)}})[0]
	if res.Err == nil || !strings.Contains(res.Err.Error(), "illegal data address (2): write holding register 200") {
		t.Errorf("%+v", res)
	}
}

// TestDeadUnitDoesNotSlowOthers: unit 9 is not answered, which is how a gateway without exceptions treats a dead slave.
func TestDeadUnitDoesNotSlowOthers(t *testing.T) {
	p := start(t)
	d := modbus.New()
	alive, dead := devicetest.Open(t, d, config(p, 1)), devicetest.Open(t, d, config(p, 9))
	pts := devicetest.Compile(t, d, point(device.TypeInt, false, "register", "holding", "offset", 0))
	good, refused := 0, 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		values := make([]device.Value, 1)
		if err := dead.Read(t.Context(), pts, values); errors.Is(err, device.ErrUnreachable) {
			refused++
		}
		if err := alive.Read(t.Context(), pts, values); err == nil {
			good++
		}
	}
	if good < 100 || refused != good {
		t.Errorf("%d good reads beside %d of the dead unit in 3 s", good, refused)
	}
}

func TestPausedPeerIsNoticedAndItsReturnToo(t *testing.T) {
	p := start(t)
	d := modbus.New()
	s := devicetest.Open(t, d, config(p, 1))
	pts := devicetest.Compile(t, d, point(device.TypeInt, true, "register", "holding", "offset", 7))
	values := make([]device.Value, 1)
	if err := s.Read(t.Context(), pts, values); err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	err := s.Read(t.Context(), pts, values)
	if took := time.Since(begin); !errors.Is(err, device.ErrUnreachable) || took > 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	for n, end := 1, time.Now().Add(15*time.Second); ; n++ {
		// Every value read must be the one just set: a late reply must not be taken for a fresh one.
		if err := p.SetHolding(t.Context(), 1, 7, uint16(n)); err != nil {
			t.Fatal(err)
		}
		if err := s.Read(t.Context(), pts, values); err == nil {
			if values[0].Text() != strconv.Itoa(n) {
				t.Errorf("read %s, the device holds %d", values[0].Text(), n)
			}
			return
		} else if time.Now().After(end) {
			t.Fatalf("not back after 15 s: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
