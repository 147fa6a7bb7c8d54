package modbus

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func holding(offset int, kv ...any) device.PointConfig {
	return visitor("p", device.TypeInt, true, append([]any{"register", "holding", "offset", offset}, kv...)...)
}

func read(t *testing.T, s device.Session, points []device.Point) ([]device.Value, error) {
	t.Helper()
	values := make([]device.Value, len(points))
	err := s.Read(t.Context(), points, values)
	return values, err
}

// TestHostileReplies: a reply that is not the answer is never taken for a value, the connection is closed, and the next
// good reply is.
func TestHostileReplies(t *testing.T) {
	for name, c := range map[string]struct {
		fault modbustest.Fault
		want  string
	}{
		"wrong transaction id": {modbustest.WrongTransaction, "transaction id"},
		"wrong unit":           {modbustest.WrongUnit, "answered instead of unit 1"},
		"wrong function":       {modbustest.WrongFunction, "function 4 instead of 3"},
		"not Modbus":           {modbustest.WrongProtocol, "does not speak Modbus"},
		"HTTP server":          {modbustest.Garbage, "bad reply"},
		"short data":           {modbustest.ShortData, "instead of 2"},
		"long data":            {modbustest.LongData, "instead of 2"},
		"wrong count":          {modbustest.WrongCount, "announced as 4"},
		"huge length":          {modbustest.HugeLength, "65534 bytes"},
		"zero length":          {modbustest.ZeroLength, "-1 bytes"},
		"endless":              {modbustest.Endless, "transaction id 0 instead of"},
		"silence":              {modbustest.Silent, "did not answer within 600ms"},
		"hang-up":              {modbustest.Hangup, "the device closed it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := modbustest.Start(t)
			srv.Unit(1).SetHolding(0, 42)
			s := devicetest.Open(t, hasty(), configFor(srv, 1))
			points := devicetest.Compile(t, New(), holding(0))
			if v, err := read(t, s, points); err != nil || v[0].Text() != "42" {
				t.Fatalf("before: %v %v", v, err)
			}
			srv.Misbehave(c.fault)
			v, err := read(t, s, points)
			if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), c.want) || v[0].Quality != device.Bad {
				t.Errorf("got %q %v, want an error with %q", v[0].Text(), err, c.want)
			}
			srv.Misbehave(modbustest.None)
			before := srv.Accepted()
			waitFor(t, 6*time.Second, func() bool {
				v, err := read(t, s, points)
				return err == nil && v[0].Text() == "42"
			})
			if srv.Accepted() == before && c.fault != modbustest.Hangup {
				t.Error("the connection was kept after a bad reply")
			}
		})
	}
}

func waitFor(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

func TestSlowAndRepeatedRepliesAreFine(t *testing.T) {
	srv := modbustest.Start(t)
	s := devicetest.Open(t, New(), configFor(srv, 1))
	points := devicetest.Compile(t, New(), holding(0))
	for _, fault := range []modbustest.Fault{modbustest.ByteWise, modbustest.Duplicate} {
		srv.Misbehave(fault)
		for i := range 5 {
			srv.Unit(1).SetHolding(0, uint16(i))
			v, err := read(t, s, points)
			if err != nil || v[0].AsInt() != int64(i) {
				t.Errorf("fault %d, round %d: %v %v", fault, i, v[0].Text(), err)
			}
			time.Sleep(5 * time.Millisecond) // let the second copy arrive, so that it is the flush that removes it
		}
	}
	if n := srv.Accepted(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// TestLateReplyIsNeverTakenForAnother is the bug that desynchronises other clients for ever.
func TestLateReplyIsNeverTakenForAnother(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1).SetHolding(0, 100)
	srv.Unit(1).SetHolding(50, 150)
	s := devicetest.Open(t, hasty(), with(configFor(srv, 1), "timeout", 150))
	srv.SetDelay(200 * time.Millisecond)
	srv.Misbehave(modbustest.Late)
	if _, err := read(t, s, devicetest.Compile(t, New(), holding(0))); !errors.Is(err, device.ErrUnreachable) {
		t.Fatalf("a reply after the time-out: %v", err)
	}
	srv.Misbehave(modbustest.None)
	time.Sleep(150 * time.Millisecond)
	waitFor(t, 6*time.Second, func() bool {
		v, err := read(t, s, devicetest.Compile(t, New(), holding(50)))
		if err == nil && v[0].Text() != "150" {
			t.Fatalf("got %s, which belongs to another request", v[0].Text())
		}
		return err == nil
	})
}

func TestUnitsShareOneConnectionAndADeadOneDoesNotSlowOthers(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1).SetHolding(0, 1)
	srv.Unit(2).SetHolding(0, 2)
	srv.Unit(3).SetSilent(true)
	d := New()
	points := devicetest.Compile(t, New(), holding(0))
	one, two, dead := devicetest.Open(t, d, configFor(srv, 1)), devicetest.Open(t, d, configFor(srv, 2)), devicetest.Open(t, d, configFor(srv, 3))
	for range 10 {
		v1, err1 := read(t, one, points)
		v2, err2 := read(t, two, points)
		if err1 != nil || err2 != nil || v1[0].AsInt() != 1 || v2[0].AsInt() != 2 {
			t.Fatalf("%v %v %v %v", v1, err1, v2, err2)
		}
	}
	if n := srv.Accepted(); n != 1 {
		t.Errorf("%d connections for two units, want 1", n)
	}
	srv.TakeLog()
	failures, good := 0, 0
	const rounds = 60
	for range rounds {
		if _, err := read(t, dead, points); errors.Is(err, device.ErrUnreachable) {
			failures++
		}
		if _, err := read(t, one, points); err == nil {
			good++
		}
	}
	probes := 0
	for _, r := range srv.TakeLog() {
		if r.Unit == 3 {
			probes++
		}
	}
	if good != rounds || failures != rounds || probes > rounds/4 {
		t.Errorf("%d good reads of the neighbour and %d failures in %d rounds, with %d requests to the dead unit", good, failures, rounds, probes)
	}
}

func TestWritesGoAheadOfReads(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1)
	srv.SetDelay(30 * time.Millisecond)
	srv.Misbehave(modbustest.Late)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "timeout", 5000)) // the order is tested, not how fast this machine is
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { _, _ = read(t, s, devicetest.Compile(t, New(), holding(10*i))) })
	}
	time.Sleep(45 * time.Millisecond) // the second read is on the wire, eight wait
	res := s.Write(t.Context(), []device.Write{{Point: devicetest.Compile(t, New(), holding(200))[0], Value: device.Int(5)}})
	if res[0].Err != nil || !res[0].Verified {
		t.Fatalf("%+v", res)
	}
	wg.Wait()
	for i, r := range srv.TakeLog() {
		if r.Function == 6 {
			if i > 4 {
				t.Errorf("the write was request %d of 12", i)
			}
			return
		}
	}
	t.Error("no write arrived")
}

func TestWriteFunctionsAndReadBack(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, New(), configFor(srv, 1))
	write := func(cfg device.PointConfig, v device.Value) device.WriteResult {
		t.Helper()
		return s.Write(t.Context(), []device.Write{{Point: devicetest.Compile(t, New(), cfg)[0], Value: v}})[0]
	}
	coil := visitor("c", device.TypeBoolean, true, "register", "CoilRegister", "offset", 7)
	for name, c := range map[string]struct {
		cfg device.PointConfig
		v   device.Value
		fc  byte
	}{
		"coil":     {coil, device.Bool(true), 5},
		"register": {holding(1), device.Int(-3), 6},
		"float32":  {visitor("f", device.TypeFloat, true, "register", "holding", "offset", 2, "wordOrder", "CDAB"), device.Float32(21.5), 16},
		"scaled":   {visitor("f", device.TypeFloat, true, "register", "holding", "offset", 4, "limit", 1, "scale", "0.1"), device.Float32(21.5), 6},
	} {
		srv.TakeLog()
		res := write(c.cfg, c.v)
		log := srv.TakeLog()
		if res.Err != nil || !res.Verified || res.Readback.Text() != c.v.Text() || len(log) != 2 || log[0].Function != c.fc {
			t.Errorf("%s: %+v, requests %+v", name, res, log)
		}
	}
	if !u.Coil(7) || u.Holding(1) != 0xFFFD || u.Holding(2) != 0 || u.Holding(3) != 0x41AC || u.Holding(4) != 215 {
		t.Errorf("registers: %v %x %x %x %d", u.Coil(7), u.Holding(1), u.Holding(2), u.Holding(3), u.Holding(4))
	}
	if err := devicetest.Compile(t, New(), holding(1))[0].(device.ValueChecker).CheckValue(device.Int(40000)); err == nil || !strings.Contains(err.Error(), "does not fit int16") {
		t.Errorf("40000 as int16: %v", err)
	}
	if res := write(holding(1), device.Int(40000)); res.Err == nil || !strings.Contains(res.Err.Error(), "does not fit int16") {
		t.Errorf("40000 as int16: %+v", res)
	}

	u.SetNoSingle(true)
	if res := write(coil, device.Bool(false)); res.Err != nil || u.Coil(7) {
		t.Errorf("a device without FC 5: %+v", res)
	}
	if res := write(holding(1), device.Int(9)); res.Err != nil || u.Holding(1) != 9 {
		t.Errorf("a device without FC 6: %+v", res)
	}
	u.SetNoSingle(false)

	u.SetStuck(true)
	res := write(holding(1), device.Int(10))
	if !errors.Is(res.Err, device.ErrNotVerified) || !strings.Contains(res.Err.Error(), "wrote 10 to holding register 1, and the device shows 9") {
		t.Errorf("a register that does not take values: %+v", res)
	}
	if res := write(holding(1, "readBack", false), device.Int(10)); res.Err != nil || res.Verified {
		t.Errorf("without read-back: %+v", res)
	}
	u.SetStuck(false)
	srv.Misbehave(modbustest.WrongEcho)
	if res := write(holding(1), device.Int(10)); !errors.Is(res.Err, device.ErrUnreachable) {
		t.Errorf("a reply with another value: %+v", res)
	}
}

func TestNeighboursAreReadInOneRequestAndARefusalCostsOnlyItsPoint(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	u.SetHolding(0, 10, 11, 12, 13)
	s := devicetest.Open(t, New(), configFor(srv, 1))
	points := devicetest.Compile(t, New(), holding(3), holding(0), holding(1), holding(2))
	v, err := read(t, s, points)
	if log := srv.TakeLog(); err != nil || len(log) != 1 || log[0].Quantity != 4 {
		t.Errorf("%v, requests %+v", err, log)
	}
	if v[0].Text() != "13" || v[1].Text() != "10" {
		t.Errorf("values %v", v)
	}
	u.SetLimit(3)
	v, err = read(t, s, points)
	if err != nil || v[1].Text() != "10" || v[3].Text() != "12" {
		t.Errorf("good points after a refusal: %v %v", v, err)
	}
	if v[0].Quality != device.Bad || !strings.Contains(v[0].Reason, "illegal data address (2): read holding register 3") {
		t.Errorf("refused point: %s %q", v[0].Quality, v[0].Reason)
	}
	srv.TakeLog()
	v, err = read(t, s, points)
	if log := srv.TakeLog(); err != nil || len(log) != 1 || log[0].Quantity != 3 || !strings.Contains(v[0].Reason, "illegal data address (2): read holding register 3") {
		t.Errorf("what was learnt is not used: want one request for three points and none for the refused: %+v, %q, %v", log, v[0].Reason, err)
	}
}

func TestGatewayExceptionsMeanUnreachable(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(5).SetException(11)
	s := devicetest.Open(t, New(), configFor(srv, 5))
	_, err := read(t, s, devicetest.Compile(t, New(), holding(0)))
	if !errors.Is(err, device.ErrUnreachable) || !strings.Contains(err.Error(), "gateway target device failed to respond (11)") {
		t.Errorf("exception 11: %v", err)
	}
	srv.Unit(5).SetException(6)
	other := srv.Unit(6)
	other.SetException(6)
	v, err := read(t, devicetest.Open(t, New(), configFor(srv, 6)), devicetest.Compile(t, New(), holding(0)))
	if err != nil || !strings.Contains(v[0].Reason, "server device busy (6)") {
		t.Errorf("exception 6: %v %v", v, err)
	}
}

func TestNothingListens(t *testing.T) {
	srv := modbustest.Start(t)
	cfg := configFor(srv, 1)
	srv.Kill()
	s := devicetest.Open(t, New(), cfg)
	_, err := read(t, s, devicetest.Compile(t, New(), holding(0)))
	if err == nil || !strings.Contains(err.Error(), "connection refused: nothing listens there") || !strings.Contains(err.Error(), srv.Addr()) {
		t.Errorf("%v", err)
	}
	_, again := read(t, s, devicetest.Compile(t, New(), holding(0)))
	if again == nil || again.Error() != err.Error() {
		t.Errorf("the reason changes while nothing else does: %v", again)
	}
}

func TestEndpointsGoAwayWithTheirLastSession(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(1)
	d := New()
	a, b := devicetest.Open(t, d, configFor(srv, 1)), devicetest.Open(t, d, configFor(srv, 2))
	if len(d.endpoints) != 1 {
		t.Fatalf("%d endpoints", len(d.endpoints))
	}
	_ = a.Close()
	_ = a.Close()
	if len(d.endpoints) != 1 {
		t.Error("the endpoint went away under a session")
	}
	_ = b.Close()
	if len(d.endpoints) != 0 {
		t.Error("the endpoint stayed behind")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Open(ctx, configFor(srv, 1)); !errors.Is(err, context.Canceled) || len(d.endpoints) != 0 {
		t.Errorf("Open with an ended context: %v", err)
	}
}

// TestTooSlowForAllIsNotOffline: a device that answers, and needs longer for all its registers than one reading may take, keeps the
// values that came.
func TestTooSlowForAllIsNotOffline(t *testing.T) {
	srv := modbustest.Start(t)
	srv.SetDelay(40 * time.Millisecond)
	srv.Misbehave(modbustest.Late)
	var cfgs []device.PointConfig
	for i := range 20 {
		srv.Unit(1).SetHolding(uint16(10*i), uint16(i))
		cfgs = append(cfgs, holding(10*i))
	}
	s := devicetest.Open(t, New(), configFor(srv, 1))
	points := devicetest.Compile(t, New(), cfgs...)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	values := make([]device.Value, len(points))
	if err := s.Read(ctx, points, values); err != nil {
		t.Fatal(err)
	}
	if v := values[0]; v.Quality != device.Good || v.Text() != "0" {
		t.Errorf("first: %+v", v)
	}
	if v := values[19]; v.Quality != device.Bad || !strings.Contains(v.Reason, "raise maxGap") {
		t.Errorf("last: %+v", v)
	}
}
