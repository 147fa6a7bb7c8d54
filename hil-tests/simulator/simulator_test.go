package simulator

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gomodbus "github.com/goburrow/modbus"
	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

func start(t *testing.T, text string) *Simulator {
	t.Helper()
	cfg, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func plant(t *testing.T) *Simulator {
	t.Helper()
	text, err := os.ReadFile("testdata/plant.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return start(t, string(text))
}

// client is one that others wrote.
func client(t *testing.T, addr string, unit byte) gomodbus.Client {
	t.Helper()
	h := gomodbus.NewTCPClientHandler(addr)
	h.SlaveId, h.Timeout = unit, 300*time.Millisecond
	if err := h.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return gomodbus.NewClient(h)
}

func TestModbusTCP(t *testing.T) {
	s := plant(t)
	c := client(t, s.Addrs()[0], 1)
	b, err := c.ReadInputRegisters(0, 5)
	if err != nil || len(b) != 10 {
		t.Fatalf("%x %v", b, err)
	}
	if temp := math.Float32frombits(binary.BigEndian.Uint32(b)); temp < 18 || temp > 24 {
		t.Errorf("temperature %v", temp)
	}
	if _, err := c.WriteSingleRegister(0, 0xFFF6); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadHoldingRegisters(0, 1); err != nil || binary.BigEndian.Uint16(b) != 0xFFF6 {
		t.Errorf("setpoint %x %v", b, err)
	}
	if v := s.Device("boiler").Values()["setpoint"]; v != -10 {
		t.Errorf("setpoint is %v, want -10", v)
	}
	if _, err := c.WriteMultipleCoils(0, 1, []byte{1}); err != nil || s.Device("boiler").Values()["pump"] != 1 {
		t.Errorf("coil: %v, %v", err, s.Device("boiler").Values())
	}
	for what, err := range map[string]error{
		"a hole": second(c.ReadInputRegisters(0, 6)), "what only reads": second(c.WriteSingleRegister(7, 1)), "no such coil": second(c.ReadCoils(0, 9)),
	} {
		var me *gomodbus.ModbusError
		if !errors.As(err, &me) || me.ExceptionCode != illegalAddress {
			t.Errorf("%s: %v, want exception 2", what, err)
		}
	}
	if b, err := client(t, s.Addrs()[0], 2).ReadInputRegisters(0, 6); err != nil || len(b) != 12 {
		t.Errorf("the other unit: %x %v", b, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFaultsOnRequest(t *testing.T) {
	s := plant(t)
	c := client(t, s.Addrs()[0], 1)
	post := func(path string, form url.Values) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Control()+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if code := post("/fault", url.Values{"device": {"boiler"}, "kind": {"exception"}, "code": {"6"}}); code != 200 {
		t.Fatalf("status %d", code)
	}
	var me *gomodbus.ModbusError
	if _, err := c.ReadInputRegisters(0, 1); !errors.As(err, &me) || me.ExceptionCode != 6 {
		t.Errorf("%v, want exception 6", err)
	}
	post("/fault", url.Values{"device": {"boiler"}, "kind": {"mute"}})
	if _, err := client(t, s.Addrs()[0], 1).ReadInputRegisters(0, 1); err == nil {
		t.Error("a mute device answered")
	}
	if _, err := client(t, s.Addrs()[0], 2).ReadInputRegisters(0, 1); err != nil {
		t.Errorf("the other unit: %v", err)
	}
	post("/fault", url.Values{"device": {"boiler"}, "kind": {"slow"}, "delay": {"1h"}})
	if _, err := client(t, s.Addrs()[0], 1).ReadInputRegisters(0, 1); err == nil {
		t.Error("a slow device answered at once")
	}
	post("/fault", url.Values{"device": {"boiler"}, "kind": {"none"}})
	if code := post("/set", url.Values{"device": {"boiler"}, "point": {"setpoint"}, "value": {"77"}}); code != 200 {
		t.Errorf("set: %d", code)
	}
	if b, err := client(t, s.Addrs()[0], 1).ReadHoldingRegisters(0, 1); err != nil || b[1] != 77 {
		t.Errorf("after the fault: %x %v", b, err)
	}
	if a, b := post("/fault", url.Values{"device": {"x"}, "kind": {"mute"}}), post("/fault", url.Values{"device": {"boiler"}, "kind": {"fire"}}); a != 404 || b != 400 {
		t.Errorf("wrong requests: %d, %d", a, b)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Control()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var views []deviceView
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&views); err != nil || len(views) != 3 || views[0].Values["setpoint"] != 77 {
		t.Errorf("%+v %v", views, err)
	}
}

// TestModbusRTU reads and writes a line with our own driver.
func TestModbusRTU(t *testing.T) {
	line := filepath.Join(t.TempDir(), "line")
	s := start(t, "modbus:\n- line: "+line+"\n  units:\n  - {id: 5, name: fan, points: [{name: speed, table: holding, address: 3, type: float32, value: 1.5}, {name: rpm, table: input, address: 0, value: 900}]}\n")
	d := modbus.New()
	session, err := d.Open(t.Context(), device.Config{Device: "ns/fan", Protocol: map[string]any{"serialPort": line, "slaveID": 5, "baudRate": 115200}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	point := func(visitor map[string]any, writable bool) device.Point {
		t.Helper()
		p, err := d.Compile(device.PointConfig{Property: "p", Type: device.TypeFloat, Writable: writable, Visitor: visitor})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	points := []device.Point{point(map[string]any{"register": "holding", "offset": 3, "type": "float32"}, true), point(map[string]any{"register": "input", "offset": 0, "type": "uint16"}, false)}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	values := make([]device.Value, 2)
	if err := session.Read(ctx, points, values); err != nil || values[0].Text() != "1.5" || values[1].Text() != "900" {
		t.Fatalf("%v %v", values, err)
	}
	if r := session.Write(ctx, []device.Write{{Point: points[0], Value: device.Float32(2.25)}}); r[0].Err != nil || !r[0].Verified {
		t.Errorf("%+v", r)
	}
	if v := s.Device("fan").Values()["speed"]; v != 2.25 {
		t.Errorf("speed is %v at the device", v)
	}
}

func TestOPCUA(t *testing.T) {
	s := plant(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := opcua.NewClient("opc.tcp://"+s.Addrs()[1], opcua.SecurityMode(ua.MessageSecurityModeNone))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	target := c.Node(ua.NewStringNodeID(1, "target"))
	write := func(v any) ua.StatusCode {
		t.Helper()
		resp, err := c.Write(ctx, &ua.WriteRequest{NodesToWrite: []*ua.WriteValue{{NodeID: target.ID, AttributeID: ua.AttributeIDValue,
			Value: &ua.DataValue{EncodingMask: ua.DataValueValue, Value: ua.MustVariant(v)}}}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Results[0]
	}
	if st := write("110"); st != ua.StatusBadTypeMismatch {
		t.Errorf("a text for a number: %v", st)
	}
	if st := write(110.5); st != ua.StatusOK {
		t.Errorf("write: %v", st)
	}
	if v, err := target.Value(ctx); err != nil || v.Value() != 110.5 {
		t.Errorf("target: %v %v", v, err)
	}
	if v, err := c.Node(ua.NewStringNodeID(1, "pressure")).Value(ctx); err != nil || v.Float() < 80 || v.Float() > 120 {
		t.Errorf("pressure: %v %v", v, err)
	}
	// Changes come to a subscriber.
	notify := make(chan *opcua.PublishNotificationData, 16)
	sub, err := c.Subscribe(ctx, &opcua.SubscriptionParameters{Interval: 100 * time.Millisecond}, notify)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Monitor(ctx, ua.TimestampsToReturnBoth, opcua.NewMonitoredItemCreateRequestWithDefaults(ua.NewStringNodeID(1, "strokes"), ua.AttributeIDValue, 7)); err != nil {
		t.Fatal(err)
	}
	for changes := 0; changes < 3; {
		select {
		case n := <-notify:
			if d, ok := n.Value.(*ua.DataChangeNotification); ok {
				changes += len(d.MonitoredItems)
			}
		case <-ctx.Done():
			t.Fatalf("%d changes", changes)
		}
	}
	if err := sub.Cancel(ctx); err != nil {
		t.Error(err)
	}
	if err := s.Device("press").SetFault(Fault{Kind: Exception}); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Value(ctx); !errors.Is(err, ua.StatusBadSensorFailure) {
		t.Errorf("a node with a fault: %v", err)
	}
}

func TestSignals(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := newDevice("d", []Point{
		{Name: "ramp", Signal: "ramp", Low: 10, High: 20, Period: 10 * time.Second}, {Name: "sine", Signal: "sine", Low: 0, High: 2, Period: 4 * time.Second},
		{Name: "square", Signal: "square", High: 1, Period: 2 * time.Second}, {Name: "count", Signal: "counter", Step: 3, High: 10}, {Name: "set", Signal: "constant", Value: 100},
		{Name: "follow", Signal: "follow", Of: "set", Lag: time.Second}, {Name: "random", Signal: "random", Value: 5, Low: 4, High: 6, Step: 100},
	}, Fault{}, began)
	at := func(dt time.Duration) map[string]float64 {
		d.move(began.Add(dt))
		out := map[string]float64{}
		for _, p := range d.points {
			out[p.Name] = math.Round(p.value*100) / 100
		}
		return out
	}
	v := at(time.Second)
	if v["ramp"] != 11 || v["sine"] != 2 || v["square"] != 1 || v["count"] != 3 || v["follow"] != 63.21 {
		t.Errorf("after 1 s: %v", v)
	}
	v = at(6 * time.Second)
	if v["ramp"] != 16 || v["square"] != 0 || v["count"] != 8 || v["random"] < 4 || v["random"] > 6 || v["follow"] < 99 {
		t.Errorf("after 6 s: %v", v)
	}
}

func TestWrongFilesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"modbus: [{units: []}]": "give listen (host:port) or line", "foo: 1": "field foo not found", "control: x": "describes nothing",
		"modbus: [{listen: x, units: [{id: 300}]}]":                                                                                    "id 300",
		"modbus: [{listen: x, units: [{id: 1, points: [{name: a, table: tank}]}]}]":                                                    `table "tank"; allowed: coil`,
		"modbus: [{listen: x, units: [{id: 1, points: [{name: a, table: input, signal: saw}]}]}]":                                      `signal "saw"`,
		"modbus: [{listen: x, units: [{id: 1, points: [{name: a, table: input, signal: sine}]}]}]":                                     "sine needs a period",
		"modbus: [{listen: x, units: [{id: 1, points: [{name: a, table: input, type: int32}, {name: b, table: input, address: 1}]}]}]": `input 1 is part of point "a", too`,
		"modbus: [{listen: x, units: [{id: 1, points: [{name: a, table: coil, type: int16}]}]}]":                                       "coils and discrete inputs are bool",
		"opcua: [{listen: x, points: [{name: a, type: text}]}]":                                                                        `type "text"`, "opcua: [{points: []}]": "listen (host:port) is missing",
		"opcua: [{listen: x, points: [{name: a, signal: follow, of: b}]}]": `of "b": there is no such`, "opcua: [{listen: x, fault: {kind: fire}}]": `fault "fire"`,
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0, 1})
	f.Add([]byte{16, 0, 0, 0, 1, 2, 0, 5})
	f.Add([]byte{15, 0, 0, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, pdu []byte) {
		d := newDevice("d", []Point{{Name: "a", Table: "holding", Type: "int32", Signal: "constant", Writable: true}, {Name: "b", Table: "coil", Type: "bool", Writable: true}}, Fault{}, time.Now())
		if reply, _ := d.answer(pdu); len(reply) > 253 {
			t.Fatalf("a reply of %d bytes", len(reply))
		}
		if n, ok := frameSize(pdu); ok && n > 300 {
			t.Fatalf("a frame of %d bytes", n)
		}
	})
}
