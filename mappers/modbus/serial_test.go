package modbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// TestTransportsConform runs the suite over all that carries Modbus.
func TestTransportsConform(t *testing.T) {
	points := func(s devicetest.Subject, srv *modbustest.Server) devicetest.Subject {
		srv.Unit(1).SetHolding(10, 0x41AC, 0x0000)
		srv.Unit(1).SetCoil(3, true)
		s.Driver = hasty()
		s.Read = []device.PointConfig{
			visitor("temperature", device.TypeFloat, false, "register", "holding", "offset", 10, "type", "float32"),
			visitor("pump", device.TypeBoolean, false, "register", "coil", "offset", 3),
		}
		s.Write = visitor("setpoint", device.TypeInt, true, "register", "HoldingRegister", "offset", 20, "limit", 2)
		s.Values = [2]device.Value{device.Int(-70000), device.Int(12)}
		s.Hang = func() { srv.Misbehave(modbustest.Silent) }
		s.Traffic = traffic(srv)
		s.Recovery = 20 * time.Second
		return s
	}
	for name, f := range map[string]modbustest.Framing{"RTU": modbustest.RTU, "ASCII": modbustest.ASCII} {
		t.Run(name, func(t *testing.T) {
			devicetest.Run(t, func(t *testing.T) devicetest.Subject {
				b := newBus(t, f)
				gone, flooded := false, false
				return points(devicetest.Subject{Config: b.config(1),
					Kill:  func() { b.pty.Unplug(); gone = true },
					Flood: func() { b.Misbehave(modbustest.Endless); flooded = true },
					Revive: func() {
						b.Misbehave(modbustest.None)
						if flooded && !gone { // it does not end by itself
							b.pty.Unplug()
							gone = true
						}
						if gone {
							b.pty.Replug()
							b.serve()
						}
					}}, b.Server)
			})
		})
		t.Run(name+" over TCP", func(t *testing.T) {
			devicetest.Run(t, func(t *testing.T) devicetest.Subject {
				srv := modbustest.Start(t)
				srv.SetFraming(f)
				cfg := configFor(srv, 1)
				cfg.Protocol["serialType"] = name + "overTCP"
				return points(devicetest.Subject{Config: cfg, Kill: srv.Kill, Flood: func() { srv.Misbehave(modbustest.Endless) }, Revive: func() {
					srv.Misbehave(modbustest.None)
					srv.Kill()
					srv.Restart()
				}}, srv)
			})
		})
	}
}

// TestHostileSlavesOnALine: what a slave does wrong costs its own values for as long as it does it, and nothing is ever taken
// for a value that is none.
func TestHostileSlavesOnALine(t *testing.T) {
	for name, c := range map[string]struct {
		fault modbustest.Fault
		want  string // "": the reply is still found
	}{
		"wrong unit": {modbustest.WrongUnit, "unit 1 at"}, "wrong function": {modbustest.WrongFunction, "unit 1 at"}, "short data": {modbustest.ShortData, "instead of 2"},
		"long data": {modbustest.LongData, "instead of 2"}, "wrong count": {modbustest.WrongCount, "unit 1 at"}, "garbage": {modbustest.Garbage, "unit 1 at"},
		"wrong checksum": {modbustest.BadSum, "the line is disturbed"}, "silence": {modbustest.Silent, "did not answer within 150ms"},
		"endless": {modbustest.Endless, "no reply among them"}, "noise before it": {modbustest.Noise, ""}, "byte by byte": {modbustest.ByteWise, ""}, "twice": {modbustest.Duplicate, ""},
	} {
		for _, f := range []modbustest.Framing{modbustest.RTU, modbustest.ASCII} {
			t.Run(fmt.Sprintf("%s/%d", name, f), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { hostileOnALine(t, f, c.fault, c.want) })
			})
		}
	}
}

func hostileOnALine(t *testing.T, f modbustest.Framing, fault modbustest.Fault, want string) {
	m := newModel(t, f)
	defer m.close()
	m.Unit(1).SetHolding(0, 42)
	s, err := m.driver.Open(t.Context(), m.config(1, "timeout", 150))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	points := devicetest.Compile(t, m.driver, holding(0))
	if v, err := read(t, s, points); err != nil || v[0].Text() != "42" {
		t.Errorf("before: %s %v", v[0].Text(), err)
	}
	m.Misbehave(fault)
	for i := range 3 {
		m.Unit(1).SetHolding(0, uint16(i))
		v, err := read(t, s, points)
		switch {
		case want == "" && (err != nil || v[0].AsInt() != int64(i)):
			t.Errorf("round %d: %s %v", i, v[0].Text(), err)
		case want != "" && (!errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), want) && i == 0 || v[0].Quality != device.Bad):
			t.Errorf("round %d: got %q %v, want an error with %q", i, v[0].Text(), err, want)
		}
	}
	m.Misbehave(modbustest.None)
	m.Unit(1).SetHolding(0, 77)
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		v, err := read(t, s, points)
		if err == nil {
			if v[0].Text() != "77" {
				t.Errorf("read %s, which is not there any more", v[0].Text())
			}
			return
		}
		if time.Since(start) > 20*time.Second {
			t.Errorf("not back: %v", err)
			return
		}
	}
}

// TestLateReplyOnALine: a slave that answers after its time does not answer the next request, its own or a neighbour's.
func TestLateReplyOnALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, modbustest.RTU)
		defer m.close()
		m.Unit(1).SetHolding(0, 100)
		m.Unit(2).SetHolding(0, 200)
		var sessions []device.Session
		for unit := 1; unit <= 2; unit++ {
			s, err := m.driver.Open(t.Context(), m.config(unit, "retries", 0, "timeout", 150))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			sessions = append(sessions, s)
		}
		points := devicetest.Compile(t, m.driver, holding(0))
		m.SetDelay(170 * time.Millisecond)
		m.Misbehave(modbustest.Late)
		if _, err := read(t, sessions[0], points); !errors.Is(err, device.ErrUnreachable) {
			t.Errorf("a reply after the time-out: %v", err)
		}
		m.Misbehave(modbustest.None)
		for range 100 {
			v, err := read(t, sessions[1], points)
			if err == nil && v[0].Text() != "200" {
				t.Errorf("unit 2 shows %s, which is unit 1's", v[0].Text())
			}
			time.Sleep(10 * time.Millisecond)
		}
		if v, err := read(t, sessions[1], points); err != nil || v[0].Text() != "200" {
			t.Errorf("unit 2: %s %v", v[0].Text(), err)
		}
	})
}

// TestWaitingForSilenceIsNotTheUnitsTime: a line that is noisy for longer than the unit's time-out is neither jammed nor opened again. A
// caller that leaves meanwhile costs nothing, and who stays gets the value.
func TestWaitingForSilenceIsNotTheUnitsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := serialline.Config{Path: "/dev/model", Baud: 9600, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
		near, far := linetest.Pair(cfg)
		srv := modbustest.New(t)
		srv.Unit(1).SetSilent(true)
		srv.Unit(2).SetHolding(0, 42)
		opened := 0
		d := New()
		d.port = func(serialline.Config) (line, error) {
			opened++
			return near, nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { srv.Serve(far, modbustest.RTU) })
		config := func(unit int) device.Config {
			return device.Config{Protocol: map[string]any{"serialPort": cfg.Path, "baudRate": cfg.Baud, "parity": "even", "slaveID": unit, "timeout": 200, "retries": 0}}
		}
		one, two := devicetest.Open(t, d, config(1)), devicetest.Open(t, d, config(2))
		points := devicetest.Compile(t, New(), holding(0))
		hurried := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			return one.Read(ctx, points, make([]device.Value, 1))
		}
		noise := int(700 * time.Millisecond / cfg.CharTime(1))
		wg.Go(func() { _, _ = far.Write(make([]byte, noise)) })
		if err := hurried(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no reply within the caller's time: %v", err)
		}
		if err := hurried(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no silence within the caller's time: %v", err)
		}
		v, err := read(t, two, points)
		if err != nil || v[0].Text() != "42" {
			t.Errorf("after the noise: %s %v", v[0].Text(), err)
		}
		if log := srv.TakeLog(); len(log) != 2 || log[0].Unit != 1 || log[1].Unit != 2 {
			t.Errorf("requests %+v: what nobody waits for is not sent", log)
		}
		if opened != 1 {
			t.Errorf("the line was opened %d times", opened)
		}
		_, _ = one.Close(), two.Close()
		_ = far.Close()
		wg.Wait()
	})
}

// TestOpeningIsNotTheUnitsTime: a port that is slow to open, as on a gateway that has just started, costs the unit nothing of its time.
func TestOpeningIsNotTheUnitsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, modbustest.RTU)
		defer m.close()
		m.Unit(1).SetHolding(0, 42)
		open := m.driver.port
		m.driver.port = func(cfg serialline.Config) (line, error) {
			time.Sleep(600 * time.Millisecond)
			return open(cfg)
		}
		s, err := m.driver.Open(t.Context(), m.config(1, "timeout", 400, "retries", 0))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if v, err := read(t, s, devicetest.Compile(t, m.driver, holding(0))); err != nil || v[0].Text() != "42" {
			t.Errorf("%s %v", v[0].Text(), err)
		}
	})
}

// heldUp is a line whose flow control gives no leave for the first request.
type heldUp struct {
	*linetest.End
	held *bool
}

func (l *heldUp) Write(p []byte) (int, error) {
	if *l.held {
		*l.held = false
		return l.Read(make([]byte, 1)) // nothing comes: until the deadline
	}
	return l.End.Write(p)
}

// TestTooLateToSend: a caller whose time ends while its request goes out says nothing about the line, and what comes next is asked.
func TestTooLateToSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := serialline.Config{Path: "/dev/model", Baud: 9600, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
		srv := modbustest.New(t)
		srv.Unit(1).SetHolding(0, 42)
		var wg sync.WaitGroup
		held := true
		d := New()
		d.port = func(serialline.Config) (line, error) {
			near, far := linetest.Pair(cfg)
			wg.Go(func() { srv.Serve(far, modbustest.RTU) })
			return &heldUp{End: near, held: &held}, nil
		}
		s := devicetest.Open(t, d, device.Config{Protocol: map[string]any{"serialPort": cfg.Path, "baudRate": cfg.Baud, "parity": "even"}})
		points := devicetest.Compile(t, New(), holding(0))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Read(ctx, points, make([]device.Value, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request that cannot be sent: %v", err)
		}
		if v, err := read(t, s, points); err != nil || v[0].Text() != "42" {
			t.Errorf("the next one: %s %v", v[0].Text(), err)
		}
		_ = s.Close()
		wg.Wait()
	})
}

func TestDevicesOfALineAgreeAboutIt(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	b.Unit(1)
	d := New()
	devicetest.Open(t, d, b.config(1))
	_, err := d.Open(t.Context(), b.config(2, "parity", "even"))
	if fe := device.FieldErrors(err); len(fe) != 1 || !strings.Contains(err.Error(), "8N1), this one wants RTU as "+b.pty.Path+" (115200 8E1)") {
		t.Errorf("%v", err)
	}
	if _, err := d.Open(t.Context(), b.config(2, "serialType", "ASCII")); err == nil {
		t.Error("RTU and ASCII on one line")
	}
	devicetest.Open(t, d, b.config(2))
}

func TestBroadcast(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	b.Unit(1).SetHolding(5, 0xFF00)
	b.Unit(2)
	d := New()
	all, one := devicetest.Open(t, d, b.config(0, "broadcastPause", 5)), devicetest.Open(t, d, b.config(1))
	w := devicetest.Compile(t, New(), holding(3, "type", "uint32"), holding(5, "type", "bool", "bit", 2))
	for i, v := range []device.Value{device.Int(0x00010002), device.Bool(true)} {
		if res := all.Write(t.Context(), []device.Write{{Point: w[i], Value: v}}); res[0].Err != nil || res[0].Verified {
			t.Fatalf("%+v", res)
		}
	}
	if _, err := read(t, one, w); err != nil { // what was sent before it has been carried out
		t.Fatal(err)
	}
	if b.Unit(1).Holding(4) != 2 || b.Unit(2).Holding(3) != 1 || b.Unit(1).Holding(5) != 0xFF04 {
		t.Errorf("%d %d %x", b.Unit(1).Holding(4), b.Unit(2).Holding(3), b.Unit(1).Holding(5))
	}
	v, err := read(t, all, w)
	if err != nil || !strings.Contains(v[0].Reason, "a broadcast has no reply") {
		t.Errorf("%v %v", v[0].Reason, err)
	}
}

// TestLineUse: at every speed, what a line could carry by the standard's arithmetic is used to 95 % at least: request, silence of
// 3.5 characters, reply, silence. The line is a model that takes the time that characters take.
func TestLineUse(t *testing.T) {
	for _, baud := range []int{9600, 19200, 115200} {
		synctest.Test(t, func(t *testing.T) {
			cfg := serialline.Config{Path: "/dev/model", Baud: baud, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
			near, far := linetest.Pair(cfg)
			srv := modbustest.New(t)
			srv.Unit(1)
			d := New()
			d.port = func(serialline.Config) (line, error) { return near, nil }
			var wg sync.WaitGroup
			wg.Go(func() { srv.Serve(far, modbustest.RTU) })
			s, err := d.Open(t.Context(), device.Config{Protocol: map[string]any{"serialPort": cfg.Path, "baudRate": baud, "parity": "even"}})
			if err != nil {
				t.Fatal(err)
			}
			points := devicetest.Compile(t, New(), holding(0, "type", "float32"), holding(2, "type", "float32"), holding(4, "type", "float32"), holding(6, "type", "float32"), holding(8, "type", "float32"))
			values := make([]device.Value, len(points))
			const rounds = 200
			start := time.Now()
			for range rounds {
				if err := s.Read(context.Background(), points, values); err != nil {
					t.Fatal(err)
				}
			}
			took := time.Since(start)
			ideal := rounds * (cfg.CharTime(8) + cfg.CharTime(5+20) + cfg.FrameGap())
			if ratio := float64(ideal) / float64(took); ratio < 0.95 || ratio > 1.01 {
				t.Errorf("%d baud: %.3f of what the line can carry (%v for %d requests)", baud, ratio, took, rounds)
			} else {
				t.Logf("%d baud: %.3f", baud, ratio)
			}
			_ = s.Close()
			_ = far.Close()
			wg.Wait()
		})
	}
}

// TestADeadSlaveCostsItsNeighboursLittle: of 32 slaves on a line one is dead; within ten minutes the others lose at most 5 % of their
// readings.
func TestADeadSlaveCostsItsNeighboursLittle(t *testing.T) {
	readings := func(dead bool) (n int) {
		synctest.Test(t, func(t *testing.T) {
			cfg := serialline.Config{Path: "/dev/model", Baud: 9600, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
			near, far := linetest.Pair(cfg)
			srv := modbustest.New(t)
			d := New()
			d.port = func(serialline.Config) (line, error) { return near, nil }
			var wg sync.WaitGroup
			wg.Go(func() { srv.Serve(far, modbustest.RTU) })
			points := devicetest.Compile(t, New(), holding(0, "type", "float64"), holding(4, "type", "float64"))
			var sessions []device.Session
			for i := range 32 {
				srv.Unit(byte(i + 1)).SetSilent(dead && i == 9)
				s, err := d.Open(t.Context(), device.Config{Protocol: map[string]any{"serialPort": cfg.Path, "baudRate": cfg.Baud, "parity": "even", "slaveID": i + 1}})
				if err != nil {
					t.Fatal(err)
				}
				sessions = append(sessions, s)
			}
			values := make([]device.Value, len(points))
			for start := time.Now(); time.Since(start) < 4*time.Minute; {
				for i, s := range sessions {
					if err := s.Read(context.Background(), points, values); err == nil && i != 9 {
						n++
					}
				}
			}
			for _, s := range sessions {
				_ = s.Close()
			}
			_ = far.Close()
			wg.Wait()
		})
		return n
	}
	all, rest := readings(false), readings(true)
	if rest < all*95/100 {
		t.Errorf("%d readings of 31 slaves beside a dead one, %d beside one that answers", rest, all)
	}
	t.Logf("%d beside %d", rest, all)
}

// TestCapture: what goes over a line can be read by a technician, for as long as one of its devices asks for it.
func TestCapture(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	b.Unit(1).SetHolding(0, 0x1234)
	d := New()
	d.captureDir = t.TempDir()
	one := devicetest.Open(t, d, b.config(1))
	two := devicetest.Open(t, d, b.config(2, "capture", 16))
	points := devicetest.Compile(t, New(), holding(0))
	if _, err := read(t, one, points); err != nil {
		t.Fatal(err)
	}
	_ = two.Close()
	if _, err := read(t, one, points); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(d.captureDir, serialline.CaptureName(b.pty.Path)))
	if err != nil || strings.Count(string(text), "> 01 03 00 00 00 01 84 0a") != 1 || !strings.Contains(string(text), "< 01 03 02 12 34") {
		t.Errorf("%s, %v", text, err)
	}
}
