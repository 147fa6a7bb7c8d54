package modbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

// requests writes what has come since the last call as FUNCTION@ADDRESS, reads without the address.
func requests(srv *modbustest.Server) string {
	var out []string
	for _, r := range srv.TakeLog() {
		if r.Function <= 4 {
			out = append(out, fmt.Sprint(r.Function))
		} else {
			out = append(out, fmt.Sprintf("%d@%d", r.Function, r.Addr))
		}
	}
	return strings.Join(out, " ")
}

// TestNothingGoesBetweenWritesThatBelongTogether: neither what others read, nor what reads the written values back.
func TestNothingGoesBetweenWritesThatBelongTogether(t *testing.T) {
	const values = 100
	srv := modbustest.Start(t)
	srv.Unit(1)
	srv.Unit(2)
	d := New()
	s, reader := devicetest.Open(t, d, with(configFor(srv, 1), "groupWrites", false)), devicetest.Open(t, d, configFor(srv, 2))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range 4 {
		p := devicetest.Compile(t, New(), holding(1000+i))
		wg.Go(func() {
			for v := make([]device.Value, 1); ctx.Err() == nil; {
				_ = reader.Read(ctx, p, v)
			}
		})
	}
	waitFor(t, 20*time.Second, func() bool { return len(srv.TakeLog()) > 0 })
	var list []device.Write
	for i := range values {
		list = append(list, device.Write{Point: devicetest.Compile(t, New(), holding(2*i, "type", "float32"))[0], Value: device.Float32(float32(i))})
	}
	srv.TakeLog()
	for i, res := range s.Write(t.Context(), list) {
		if res.Err != nil || !res.Verified || !res.Readback.Same(list[i].Value) {
			t.Fatalf("%s: %+v", list[i].Point, res)
		}
	}
	first, last, backs := -1, -1, 0
	for i, r := range srv.TakeLog() {
		switch {
		case r.Function == 16:
			if last = i; first < 0 {
				first = i
			}
		case r.Unit == 1:
			backs++
		}
	}
	if last-first != values-1 {
		t.Errorf("%d requests of others within %d writes", last-first-values+1, values)
	}
	if backs != 2 {
		t.Errorf("200 registers were read back in %d requests, want 2", backs)
	}
}

// TestWritesKeepTheirOrder whatever the device refuses on the way.
func TestWritesKeepTheirOrder(t *testing.T) {
	bit := func(addr, bit int) device.PointConfig { return holding(addr, "type", "bool", "bit", bit) }
	long := func(addr int, kv ...any) device.PointConfig { return holding(addr, append(kv, "type", "int32")...) }
	three := []device.PointConfig{holding(1), holding(5), holding(9)}
	for name, c := range map[string]struct {
		points []device.PointConfig
		config []any
		unit   func(*modbustest.Unit)
		want   string
	}{
		"a busy device":                  {three, []any{"busyPause", 1}, func(u *modbustest.Unit) { u.SetBusy(2) }, "6@1 6@1 6@1 6@5 6@9 3 3 3"},
		"one that acknowledges":          {three, []any{"busyPause", 1}, func(u *modbustest.Unit) { u.SetSlow(1) }, "6@1 6@5 6@9 3 3 3"},
		"no FC 6":                        {three, nil, func(u *modbustest.Unit) { u.SetNoSingle(true) }, "6@1 16@1 6@5 16@5 6@9 16@9 3 3 3"},
		"the same register twice":        {[]device.PointConfig{holding(1), holding(1), holding(2)}, nil, nil, "6@1 3 6@1 6@2 3"},
		"bits of a register":             {[]device.PointConfig{bit(1, 0), bit(1, 5), holding(2)}, nil, nil, "22@1 22@1 6@2 3"},
		"a bit and its register":         {[]device.PointConfig{bit(1, 0), holding(1)}, nil, nil, "22@1 3 6@1 3"},
		"bits without FC 22":             {[]device.PointConfig{holding(0), bit(1, 0), bit(1, 5), holding(2)}, nil, func(u *modbustest.Unit) { u.SetNoMask(true) }, "6@0 22@1 3 6@1 3 6@1 6@2 3"},
		"one request for each value":     {[]device.PointConfig{holding(1), holding(2)}, []any{"onePerRequest", true}, nil, "6@1 6@2 3 3"},
		"what takes FC 16 anyway":        {[]device.PointConfig{long(0), long(2), long(4), holding(6), holding(7, "writeMultiple", true), long(8), long(20)}, nil, nil, "16@0 6@6 16@7 16@20 3 3"},
		"one that takes few at a time":   {[]device.PointConfig{long(0), long(2), long(4)}, nil, func(u *modbustest.Unit) { u.SetMost(2, 3) }, "16@0 16@0 16@2 16@4 3"},
		"two that are not one after":     {[]device.PointConfig{long(2), long(0)}, nil, nil, "16@2 16@0 3"},
		"each alone":                     {[]device.PointConfig{long(0), long(2)}, []any{"groupWrites", false}, nil, "16@0 16@2 3"},
		"more than a request takes":      {[]device.PointConfig{long(0), long(2), long(4)}, []any{"maxRegisters", 4}, nil, "16@0 16@4 3 3"},
		"the last registers":             {[]device.PointConfig{long(65530), long(65532), long(65534)}, nil, nil, "16@65530 3"},
		"without read-back":              {[]device.PointConfig{holding(1), holding(2, "readBack", false), holding(3)}, nil, nil, "6@1 6@2 6@3 3 3"},
		"across a gap":                   {[]device.PointConfig{holding(1), holding(3)}, []any{"maxGap", 1}, nil, "6@1 6@3 3"},
		"FC 23 between":                  {[]device.PointConfig{holding(1, "readBack", false), holding(2), holding(3, "readBack", false)}, []any{"readWrite", true}, nil, "6@1 23@2 6@3"},
		"read back alone where together": {[]device.PointConfig{holding(1), holding(3)}, []any{"maxGap", 1}, func(u *modbustest.Unit) { u.SetHole(2, true) }, "6@1 6@3 3 3 3"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := modbustest.Start(t)
			u := srv.Unit(1)
			s := devicetest.Open(t, New(), with(configFor(srv, 1), c.config...))
			if c.unit != nil {
				c.unit(u)
			}
			var list []device.Write
			for i, p := range devicetest.Compile(t, New(), c.points...) {
				v := device.Int(int64(i + 1))
				if strings.Contains(p.String(), "bit") {
					v = device.Bool(true)
				}
				list = append(list, device.Write{Point: p, Value: v})
			}
			for i, res := range s.Write(t.Context(), list) {
				if silent := strings.Contains(list[i].Point.String(), "no read-back"); res.Err != nil || res.Verified == silent {
					t.Errorf("%s: %+v", list[i].Point, res)
				}
			}
			if got := requests(srv); got != c.want {
				t.Errorf("requests %s, want %s", got, c.want)
			}
		})
	}
}

// TestADeviceThatDoesNotTakeSeveralValues is asked once, whatever it does not take them with; the next write goes out one by one.
func TestADeviceThatDoesNotTakeSeveralValues(t *testing.T) {
	for _, code := range []byte{3, 0x0B, 0} {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(t, modbustest.RTU)
			defer m.close()
			u := m.Unit(1)
			u.SetMost(2, code)
			s := devicetest.Open(t, m.driver, m.config(1))
			list := threeNeighbours(t, m.driver)
			if got := verified(s.Write(t.Context(), list)); got != (code == 3) {
				t.Errorf("code %d: the first write: %v", code, got)
			}
			time.Sleep(time.Minute - time.Second) // past every back-off, and before it is asked again
			m.TakeLog()
			if res := s.Write(t.Context(), list); !verified(res) {
				t.Errorf("code %d: %+v", code, res)
			}
			if got := requests(m.Server); got != "16@0 16@2 16@4 3" {
				t.Errorf("code %d: requests %s", code, got)
			}
			if code == 3 {
				return // that is known for certain, and for as long as the session lasts
			}
			// It was off: it takes them when it is asked again.
			u.SetMost(0, 0)
			time.Sleep(time.Second)
			s.Write(t.Context(), list)
			if got := requests(m.Server); got != "16@0 3" {
				t.Errorf("code %d: a minute later: requests %s", code, got)
			}
		})
	}
}

// TestADeviceThatIsAway: a write that was not even sent says nothing of what the device takes.
func TestADeviceThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, modbustest.RTU)
		defer m.close()
		u := m.Unit(1)
		u.SetSilent(true)
		s := devicetest.Open(t, m.driver, m.config(1))
		list := threeNeighbours(t, m.driver)
		if err := s.Read(t.Context(), []device.Point{list[0].Point}, make([]device.Value, 1)); !errors.Is(err, device.ErrUnreachable) {
			t.Fatalf("reading from a silent device: %v", err)
		}
		m.TakeLog()
		s.Write(t.Context(), list) // within the back-off that the read has begun
		if got := requests(m.Server); got != "" {
			t.Fatalf("requests within a back-off: %s", got)
		}
		u.SetSilent(false)
		time.Sleep(30 * time.Second)
		if res := s.Write(t.Context(), list); !verified(res) {
			t.Errorf("%+v", res)
		}
		if got := requests(m.Server); got != "16@0 3" {
			t.Errorf("requests %s", got)
		}
	})
}

// TestARefusedValue: what one of the values is to blame for, or business, is no reason to write all one by one.
func TestARefusedValue(t *testing.T) {
	srv := modbustest.Start(t)
	u := srv.Unit(1)
	s := devicetest.Open(t, New(), with(configFor(srv, 1), "busyPause", 1, "busyRetries", 2))
	list := threeNeighbours(t, New())
	u.SetLimit(4)
	s.Write(t.Context(), list)
	u.SetLimit(65536)
	u.SetBusy(3)
	srv.TakeLog()
	s.Write(t.Context(), list)
	if got := requests(srv); got != "16@0 16@0 16@0" {
		t.Errorf("of a busy device: requests %s", got)
	}
	if res := s.Write(t.Context(), list); !verified(res) {
		t.Errorf("%+v", res)
	}
	if got := requests(srv); got != "16@0 3" {
		t.Errorf("afterwards: requests %s", got)
	}
}

// threeNeighbours are written with one FC 16.
func threeNeighbours(t *testing.T, d *Driver) (list []device.Write) {
	for i := range 3 {
		list = append(list, device.Write{Point: devicetest.Compile(t, d, holding(2*i, "type", "int32"))[0], Value: device.Int(int64(i))})
	}
	return list
}

func verified(results []device.WriteResult) bool {
	for _, res := range results {
		if !res.Verified {
			return false
		}
	}
	return true
}

// TestAWriteOfManyValuesOverASlowLineGetsSomewhere: what is out when the time is up counts as written and is not sent again.
func TestAWriteOfManyValuesOverASlowLineGetsSomewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, modbustest.RTU)
		defer m.close()
		m.Unit(1)
		s := devicetest.Open(t, m.driver, m.config(1, "baudRate", 1200))
		var list []device.Write
		for i := range 200 { // each takes more than 200 ms, with its read-back
			list = append(list, device.Write{Point: devicetest.Compile(t, m.driver, holding(3*i))[0], Value: device.Int(int64(i))})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		verified := 0
		for _, res := range s.Write(ctx, list) {
			if res.Verified {
				verified++
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if verified < 20 || verified == len(list) {
			t.Errorf("%d of %d values were verified within 10 s", verified, len(list))
		}
	})
}
