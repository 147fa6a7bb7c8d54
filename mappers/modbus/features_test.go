package modbus

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

// with adds settings to a device's configuration.
func with(cfg device.Config, kv ...any) device.Config {
	for i := 0; i < len(kv); i += 2 {
		cfg.Protocol[kv[i].(string)] = kv[i+1]
	}
	return cfg
}

func writeOne(t *testing.T, s device.Session, p device.Point, v device.Value) device.WriteResult {
	t.Helper()
	return s.Write(t.Context(), []device.Write{{Point: p, Value: v}})[0]
}

func functions(srv *modbustest.Server) string {
	var out []string
	for _, r := range srv.TakeLog() {
		out = append(out, strconv.Itoa(int(r.Function)))
	}
	return strings.Join(out, " ")
}

// TestBitsOfRegistersLeaveTheOthersAlone, with FC 22 and without.
func TestBitsOfRegistersLeaveTheOthersAlone(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, New(), configFor(srv, 1))
	p := devicetest.Compile(t, New(),
		holding(0, "type", "bool", "bit", 4), holding(0, "type", "uint8-high"), holding(0, "type", "uint16", "mask", 0x0F, "shift", 0), holding(0, "type", "uint8-low", "isSwap", true),
		holding(0, "type", "uint32", "mask", 0x0FF000, "shift", 12, "wordOrder", "CDAB"))
	for i, c := range []struct {
		v    device.Value
		want [2]uint16
	}{
		{device.Bool(true), [2]uint16{0xA55A | 0x10, 0x1234}}, {device.Int(0x77), [2]uint16{0x775A, 0x1234}}, {device.Int(3), [2]uint16{0xA553, 0x1234}},
		{device.Int(0x11), [2]uint16{0x115A, 0x1234}}, {device.Int(0xEE), [2]uint16{0xE55A, 0x123E}},
	} {
		for _, mask := range []bool{true, false, false} {
			u.SetNoMask(!mask)
			u.SetHolding(0, 0xA55A, 0x1234)
			srv.TakeLog()
			res := writeOne(t, s, p[i], c.v)
			fcs := functions(srv)
			if res.Err != nil || !res.Verified || res.Readback.Text() != c.v.Text() || u.Holding(0) != c.want[0] || u.Holding(1) != c.want[1] {
				t.Errorf("%s = %s (%s): %+v, registers %04x %04x, want %04x", p[i], c.v.Text(), fcs, res, u.Holding(0), u.Holding(1), c.want)
			}
			if mask && i < 4 && fcs != "22 3" && i == 0 {
				t.Errorf("%s: functions %s", p[i], fcs)
			}
		}
	}
	u.SetStuck(true)
	if res := writeOne(t, s, p[0], device.Bool(u.Holding(0)&0x10 == 0)); !errors.Is(res.Err, device.ErrNotVerified) {
		t.Errorf("a bit that does not change: %+v", res)
	}
}

// TestBitsAfterAnOutage: a device that was away for a moment has FC 22 still; what takes two requests could undo what the device itself changes in between.
func TestBitsAfterAnOutage(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, hasty(), with(configFor(srv, 1), "timeout", 100))
	p := devicetest.Compile(t, New(), holding(0, "type", "bool", "bit", 4))[0]
	for _, away := range []func(bool){u.SetSilent, func(on bool) {
		if on {
			srv.Kill()
		} else {
			srv.Restart()
		}
	}} {
		away(true)
		if res := writeOne(t, s, p, device.Bool(true)); !errors.Is(res.Err, device.ErrUnreachable) {
			t.Errorf("%+v", res)
		}
		away(false)
		srv.TakeLog()
		waitFor(t, 20*time.Second, func() bool { return writeOne(t, s, p, device.Bool(true)).Err == nil })
		if got := functions(srv); got != "22 3" {
			t.Errorf("functions %s", got)
		}
	}
	u.SetSilent(true)
	if res := writeOne(t, s, p, device.Bool(true)); res.Err == nil || !strings.Contains(res.Err.Error(), "set maskWrite to false") {
		t.Errorf("%+v", res)
	}
}

// TestReadWriteInOneRequest: FC 23, and FC 16 and 3 where the device has no FC 23.
func TestReadWriteInOneRequest(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "readWrite", true))
	p := devicetest.Compile(t, New(), holding(0, "type", "int32"), holding(9, "type", "int16", "readBack", false), holding(5, "writeMultiple", true))
	if res := writeOne(t, s, p[0], device.Int(-5)); res.Err != nil || !res.Verified || res.Readback.Text() != "-5" || functions(srv) != "23" {
		t.Errorf("%+v", res)
	}
	u.SetStuck(true)
	if res := writeOne(t, s, p[0], device.Int(6)); !errors.Is(res.Err, device.ErrNotVerified) {
		t.Errorf("%+v", res)
	}
	u.SetStuck(false)
	u.SetNoMask(true)
	srv.TakeLog()
	for range 2 {
		if res := writeOne(t, s, p[0], device.Int(7)); res.Err != nil || !res.Verified || u.Holding(1) != 7 {
			t.Errorf("%+v", res)
		}
	}
	if got := functions(srv); got != "23 16 3 16 3" {
		t.Errorf("functions %s", got)
	}
	u.SetLimit(0)
	again := devicetest.Open(t, New(), with(configFor(srv, 1), "readWrite", true))
	if res := writeOne(t, again, p[0], device.Int(8)); res.Err == nil || !strings.Contains(res.Err.Error(), "illegal data address (2): write holding registers 0 to 1") {
		t.Errorf("neither FC 23 nor FC 16: %+v", res)
	}
	u.SetLimit(65536)
	srv.TakeLog()
	if res := writeOne(t, s, p[1], device.Int(7)); res.Err != nil || functions(srv) != "6" {
		t.Errorf("%+v", res)
	}
	if res := writeOne(t, s, p[2], device.Int(8)); res.Err != nil || u.Holding(5) != 8 {
		t.Errorf("%+v", res)
	}
}

// TestABusyDeviceIsAskedAgain, and does not hold up its neighbours.
func TestABusyDeviceIsAskedAgain(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1).SetHolding(0, 5)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "busyPause", 5, "busyRetries", 3))
	p := devicetest.Compile(t, New(), holding(0))
	srv.Unit(1).SetBusy(2)
	if v, err := read(t, s, p); err != nil || v[0].Text() != "5" {
		t.Errorf("read: %+v %v", v, err)
	}
	srv.Unit(1).SetBusy(3)
	if res := writeOne(t, s, p[0], device.Int(6)); res.Err != nil || !res.Verified {
		t.Errorf("write: %+v", res)
	}
	srv.Unit(1).SetSlow(1)
	srv.TakeLog()
	if res := writeOne(t, s, p[0], device.Int(7)); res.Err != nil || !res.Verified || functions(srv) != "6 3" {
		t.Errorf("a write that the device acknowledges and takes its time for: %+v", res)
	}
	srv.Unit(1).SetBusy(100)
	if v, err := read(t, s, p); err != nil || !strings.Contains(v[0].Reason, "server device busy (6)") {
		t.Errorf("always busy: %+v %v", v, err)
	}
}

// TestHolesAreFoundInFewRequestsAndForgotten: one bad register among 64 properties costs a search by halves, then nothing, and is
// tried again after holeRetry.
func TestHolesAreFoundInFewRequestsAndForgotten(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	cfgs := []device.PointConfig{}
	for i := range 64 {
		cfgs = append(cfgs, holding(i))
		u.SetHolding(uint16(i), uint16(i))
	}
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "holeRetry", 1))
	p := devicetest.Compile(t, New(), cfgs...)
	u.SetHole(37, true)
	check := func(want string, most int) {
		t.Helper()
		srv.TakeLog()
		v, err := read(t, s, p)
		log := srv.TakeLog()
		if err != nil || len(log) > most {
			t.Errorf("%d requests, want %d at most; %v", len(log), most, err)
		}
		for i := range v {
			if good := v[i].Quality == device.Good && v[i].AsInt() == int64(i); good == (i == 37 && want != "") {
				t.Errorf("register %d: %s %q", i, v[i].Text(), v[i].Reason)
			}
		}
		if !strings.Contains(v[37].Reason, want) {
			t.Errorf("register 37: %q", v[37].Reason)
		}
	}
	check("illegal data address (2): read holding register 37", 13)
	check("illegal data address (2): read holding register 37", 2)
	u.SetHole(37, false)
	waitFor(t, 20*time.Second, func() bool {
		v, err := read(t, s, p)
		return err == nil && v[37].Quality == device.Good
	})
	check("", 1)
}

// TestGapsThatTheDeviceDoesNotHave are not read across again.
func TestGapsThatTheDeviceDoesNotHave(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	u.SetHole(3, true)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "maxGap", 10))
	p := devicetest.Compile(t, New(), holding(0), holding(1), holding(5), holding(9))
	for i, want := range []int{3, 2} {
		srv.TakeLog()
		v, err := read(t, s, p)
		log := srv.TakeLog()
		if err != nil || len(log) != want && i > 0 || len(log) > 7 {
			t.Errorf("round %d: %+v %v", i, log, err)
		}
		for j := range v {
			if v[j].Quality != device.Good {
				t.Errorf("round %d: %s: %s", i, p[j], v[j].Reason)
			}
		}
	}
}

func TestPipelining(t *testing.T) {
	srv := modbustest.Start(t)
	var cfgs []device.PointConfig
	for i := range 40 {
		cfgs = append(cfgs, holding(10*i))
		srv.Unit(1).SetHolding(uint16(10*i), uint16(i))
	}
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "pipeline", 8))
	p := devicetest.Compile(t, New(), cfgs...)
	for range 20 {
		v, err := read(t, s, p)
		for i := range v {
			if err != nil || v[i].AsInt() != int64(i) {
				t.Fatalf("%d: %+v %v", i, v[i], err)
			}
		}
	}
	if n := srv.Accepted(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// A reply that belongs to nothing ends the connection, and nothing is taken for another's value.
	srv.Misbehave(modbustest.WrongTransaction)
	if v, err := read(t, s, p); !errors.Is(err, device.ErrUnreachable) || v[0].Quality != device.Bad {
		t.Errorf("%+v %v", v[0], err)
	}
	srv.Misbehave(modbustest.None)
	waitFor(t, 20*time.Second, func() bool {
		v, err := read(t, s, p)
		return err == nil && v[39].AsInt() == 39
	})
}

func TestBackupAddress(t *testing.T) {
	first, second := modbustest.Start(t), modbustest.Start(t)
	first.Unit(1).SetHolding(0, 1)
	second.Unit(1).SetHolding(0, 2)
	s := devicetest.Open(t, hasty(), with(configFor(first, 1), "backup", second.Addr()))
	p := devicetest.Compile(t, New(), holding(0))
	reads := func(want string) {
		t.Helper()
		waitFor(t, 30*time.Second, func() bool {
			v, err := read(t, s, p)
			return err == nil && v[0].Text() == want
		})
	}
	reads("1")
	first.Kill()
	reads("2")
	first.Restart()
	second.Kill()
	reads("1")
	second.Restart()
	first.Misbehave(modbustest.Silent)
	reads("2")
}

// TestGatewayThatDialsIn: the newest connection counts, and not everybody may connect.
func TestGatewayThatDialsIn(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	srv := modbustest.New(t)
	srv.Unit(1).SetHolding(0, 7)
	s := devicetest.Open(t, hasty(), device.Config{Protocol: map[string]any{"listen": addr, "listenFrom": "127.0.0.0/8", "timeout": 300, "serialType": "RTUoverTCP"}})
	p := devicetest.Compile(t, New(), holding(0))
	_, err = read(t, s, p)
	if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), "no gateway has connected to this address yet") {
		t.Errorf("%v", err)
	}
	for range 2 { // the second connection takes the first one's place
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv.Serve(conn, modbustest.RTU)
		}()
		t.Cleanup(func() {
			_ = conn.Close()
			<-done
		})
		waitFor(t, 20*time.Second, func() bool {
			v, err := read(t, s, p)
			return err == nil && v[0].Text() == "7"
		})
	}
	o := &listenOpener{}
	o.from = mustConfig(t, map[string]any{"listen": ":502", "listenFrom": "10.0.0.0/8"}).from
	if o.allowed(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}) || !o.allowed(&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 1}) {
		t.Error("listenFrom is not obeyed")
	}
}

func mustConfig(t *testing.T, data map[string]any) config {
	t.Helper()
	c, err := parseConfig(device.Config{Protocol: data})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "idleClose", 1, "connectPause", 1, "requestGap", 1))
	p := devicetest.Compile(t, New(), holding(0))
	for want := 1; want <= 2; want++ {
		for range 3 {
			if _, err := read(t, s, p); err != nil {
				t.Fatal(err)
			}
		}
		if n := srv.Accepted(); n != want {
			t.Errorf("%d connections, want %d", n, want)
		}
		if want == 1 {
			waitFor(t, 20*time.Second, func() bool { return srv.Open() == 0 })
		}
	}
}

func TestDeviceIdentification(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1)
	s := devicetest.Open(t, New(), configFor(srv, 1)).(device.Browser)
	got, err := s.Browse(t.Context(), "", 100)
	var names []string
	for _, e := range got {
		names = append(names, e.Name)
	}
	if all := strings.Join(names, "|"); err != nil || !strings.HasPrefix(all, "VendorName = Acme!|ProductCode = P7|MajorMinorRevision = 1.2") {
		t.Errorf("%s, %v", all, err)
	}
	if got, err := s.Browse(t.Context(), "", 1); err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
	srv.Unit(1).SetNoMask(true)
	if _, err := s.Browse(t.Context(), "", 100); err == nil || !strings.Contains(err.Error(), "illegal function (1): read device identification") {
		t.Errorf("%v", err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte{14, 1, 1, 0, 0, 1, 0, 3, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseIdentity(data)
		if err == nil && len(got.objects) > len(data) {
			t.Errorf("%d objects of %d bytes", len(got.objects), len(data))
		}
	})
}

// TestADeadSlaveIsSkippedForTheRestOfTheCycle and costs one time-out, however many requests its points take.
func TestADeadSlaveIsSkippedForTheRestOfTheCycle(t *testing.T) {
	b := newBus(t, modbustest.RTU)
	b.Unit(1).SetSilent(true)
	b.Unit(2).SetHolding(0, 2)
	d := New()
	dead, alive := devicetest.Open(t, d, b.config(1, "onePerRequest", true)), devicetest.Open(t, d, b.config(2))
	p := devicetest.Compile(t, New(), holding(0), holding(1), holding(2), holding(3))
	v, err := read(t, dead, p)
	if !errors.Is(err, device.ErrUnreachable) || v[3].Quality != device.Bad {
		t.Errorf("%+v %v", v, err)
	}
	if n := len(b.TakeLog()); n != 2 { // the request and its one retry
		t.Errorf("%d requests to a dead slave", n)
	}
	if _, err := read(t, dead, p); !errors.Is(err, device.ErrUnreachable) || len(b.TakeLog()) != 0 {
		t.Errorf("a slave in back-off was asked: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	values := make([]device.Value, 1)
	if err := alive.Read(ctx, p[:1], values); err != nil || values[0].Text() != "2" {
		t.Errorf("its neighbour: %v %v", values[0], err)
	}
}

// TestNeighboursAreWrittenInOneRequest if that is asked for, and one by one if the device refuses it.
func TestNeighboursAreWrittenInOneRequest(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "groupWrites", true))
	var cfgs []device.PointConfig
	for i := range 100 {
		cfgs = append(cfgs, holding(2*i, "type", "int32"))
	}
	for i := range 20 {
		cfgs = append(cfgs, visitor("c", device.TypeBoolean, true, "register", "coil", "offset", i))
	}
	pts := devicetest.Compile(t, New(), cfgs...)
	var writes []device.Write
	for i, p := range pts {
		v := device.Int(int64(-i))
		if i >= 100 {
			v = device.Bool(i%3 == 0)
		}
		writes = append(writes, device.Write{Point: p, Value: v})
	}
	check := func(what, fcs string) {
		t.Helper()
		srv.TakeLog()
		for i, res := range s.Write(t.Context(), writes) {
			if res.Err != nil || !res.Verified || !res.Readback.Same(writes[i].Value) {
				t.Fatalf("%s: %s: %+v", what, pts[i], res)
			}
		}
		if got := functions(srv); got != fcs {
			t.Errorf("%s: functions %s, want %s", what, got, fcs)
		}
	}
	check("all", "16 16 15 1 3 3")
	if u.Holding(199) != 0xFF9D || !u.Coil(2) || u.Coil(3) {
		t.Errorf("%x %v %v", u.Holding(199), u.Coil(2), u.Coil(3))
	}
	writes, pts = writes[:3], pts[:3]
	u.SetNoMany(true)
	srv.TakeLog()
	for i, res := range s.Write(t.Context(), writes) {
		if i < 3 && (res.Err == nil || !strings.Contains(res.Err.Error(), "illegal function (1): write holding registers")) {
			t.Errorf("a device without FC 16: %+v", res)
		}
	}
	if got := functions(srv); got != "16 16 16 16" {
		t.Errorf("functions %s: want the group and then each alone", got)
	}
	u.SetNoMany(false)
	u.SetStuck(true)
	u.SetHolding(0, 7)
	for i, res := range s.Write(t.Context(), writes) {
		if (i == 0) != errors.Is(res.Err, device.ErrNotVerified) {
			t.Errorf("%s: %+v", pts[i], res)
		}
	}
}
