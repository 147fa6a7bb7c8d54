package dmi_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	dmi "github.com/kubeedge/api/apis/dmi/v1beta1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// thermostat makes a model and a device of it in the cluster.
func thermostat(t *testing.T, g *gateway, name, protocol string, generation int64, config object, desired string) {
	t.Helper()
	g.cluster.model(t, "thermostat",
		object{"name": "temperature", "type": "INT", "accessMode": "ReadOnly", "unit": "°C", "minimum": "-2000000", "maximum": "2000000"},
		object{"name": "setpoint", "type": "INT", "accessMode": "ReadWrite"})
	setpoint := object{"name": "setpoint", "collectCycle": int64(500), "reportToCloud": false, "visitors": object{"protocolName": protocol, "configData": object{"address": int64(40), "deadband": 0.5}}}
	if desired != "" {
		setpoint["desired"] = object{"value": desired}
	}
	g.cluster.device(t, name, "thermostat", protocol, generation, config,
		object{"name": "temperature", "collectCycle": int64(100), "reportCycle": int64(200), "visitors": object{"configData": object{"address": "t1", "history": true}}}, setpoint)
}

func wrapped(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestMessages holds what a mapper gets to KubeEdge's own types, field by field.
func TestMessages(t *testing.T) {
	g := newGateway(t)
	g.start(t)
	thermostat(t, g, "room", "demo", 1, object{"port": int64(502), "host": "10.0.0.7", "ratio": 0.1, "fast": true, "big": uint64(1 << 63), "tags": []any{"a", int64(2), nil}, "more": object{"x": "", "y": false}}, "21")
	g.untilState(t, "room", "offline", `no mapper for protocol "demo" has registered`)
	p := startPeer(t, g, "one.sock")
	r := p.mustRegister(t, "one", "demo")
	tags, _ := structpb.NewList([]any{"a", 2, nil})
	more, _ := structpb.NewStruct(object{"x": "", "y": false})
	want := &dmi.MapperRegisterResponse{
		ModelList: []*dmi.DeviceModel{{Name: "thermostat", Namespace: "default", Spec: &dmi.DeviceModelSpec{Properties: []*dmi.ModelProperty{
			{Name: "temperature", Type: "INT", AccessMode: "ReadOnly", Unit: "°C", Minimum: "-2000000", Maximum: "2000000"}, {Name: "setpoint", Type: "INT", AccessMode: "ReadWrite"},
		}}}},
		DeviceList: []*dmi.Device{{Name: "room", Namespace: "default", Spec: &dmi.DeviceSpec{
			DeviceModelReference: "thermostat",
			Protocol: &dmi.ProtocolConfig{ProtocolName: "demo", ConfigData: &dmi.CustomizedValue{Data: map[string]*anypb.Any{
				"port": wrapped(t, wrapperspb.Int64(502)), "host": wrapped(t, wrapperspb.String("10.0.0.7")), "ratio": wrapped(t, wrapperspb.Double(0.1)), "fast": wrapped(t, wrapperspb.Bool(true)),
				"big": wrapped(t, wrapperspb.UInt64(1<<63)), "tags": wrapped(t, tags), "more": wrapped(t, more),
			}}},
			Methods: []*dmi.DeviceMethod{{Name: "reset", Description: "starts anew", PropertyNames: []string{"setpoint"}}},
			Properties: []*dmi.DeviceProperty{
				{Name: "temperature", Desired: &dmi.TwinProperty{}, CollectCycle: 100, ReportCycle: 200, ReportToCloud: true,
					Visitors: &dmi.VisitorConfig{ProtocolName: "demo", ConfigData: &dmi.CustomizedValue{Data: map[string]*anypb.Any{"address": wrapped(t, wrapperspb.String("t1"))}}}},
				{Name: "setpoint", Desired: &dmi.TwinProperty{Value: "21"}, CollectCycle: 500,
					Visitors: &dmi.VisitorConfig{ProtocolName: "demo", ConfigData: &dmi.CustomizedValue{Data: map[string]*anypb.Any{"address": wrapped(t, wrapperspb.Int64(40))}}}},
			},
		}}},
	}
	// Entries of maps have no order on the wire: the messages are compared, and so is what is in each Any.
	if !sameMessages(r, want) {
		t.Errorf("got\n%v\nwant\n%v", r, want)
	}
}

// sameMessages compares what Any holds by its meaning.
func sameMessages(a, b *dmi.MapperRegisterResponse) bool {
	open := func(r *dmi.MapperRegisterResponse) (out []proto.Message, rest *dmi.MapperRegisterResponse) {
		rest = proto.Clone(r).(*dmi.MapperRegisterResponse)
		for _, d := range rest.DeviceList {
			for _, name := range []string{"port", "host", "ratio", "fast", "big", "tags", "more"} {
				m, err := d.Spec.Protocol.ConfigData.Data[name].UnmarshalNew()
				if err != nil {
					return nil, nil
				}
				out = append(out, m)
			}
			d.Spec.Protocol = nil
		}
		return out, rest
	}
	x, restX := open(a)
	y, restY := open(b)
	if x == nil || len(x) != len(y) || !proto.Equal(restX, restY) {
		return false
	}
	for i := range x {
		if !proto.Equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

// TestLife changes, writes and removes a device of a mapper that runs.
func TestLife(t *testing.T) {
	g := newGateway(t)
	g.start(t)
	p := startPeer(t, g, "one.sock")
	p.mustRegister(t, "one", "demo")
	thermostat(t, g, "room", "demo", 1, object{"port": int64(1)}, "")
	until(t, "the device is registered", func() (bool, string) { d := p.device("room"); return d != nil, "" })
	if got := p.took(); got != "CreateDeviceModel thermostat, RegisterDevice room" {
		t.Errorf("calls: %s", got)
	}
	p.mustReport(t, "room", "temperature", "20")
	p.mustReport(t, "room", "setpoint", "18")
	g.untilState(t, "room", "online", "")

	thermostat(t, g, "room", "demo", 2, object{"port": int64(1)}, "25") // the cluster wants another value
	until(t, "the desired value is there", func() (bool, string) { v := p.desired("room", "setpoint"); return v == "25", v })
	p.mustReport(t, "room", "setpoint", "25")
	until(t, "the value is verified", func() (bool, string) {
		s, _ := g.state("room")
		return len(s.Properties) == 2 && s.Properties[1].Outcome == "verified", ""
	})
	thermostat(t, g, "room", "demo", 3, object{"port": int64(2)}, "25") // and another port
	until(t, "the port is there", func() (bool, string) {
		var v wrapperspb.Int64Value
		err := p.device("room").Spec.Protocol.ConfigData.Data["port"].UnmarshalTo(&v)
		return err == nil && v.Value == 2, v.String()
	})
	written := make(chan error, 1)
	go func() {
		_, err := g.host.Write(context.Background(), "default", "room", "setpoint", "30") // at the gateway
		written <- err
	}()
	until(t, "the written value is there", func() (bool, string) { v := p.desired("room", "setpoint"); return v == "30", v })
	p.mustReport(t, "room", "setpoint", "30")
	if err := <-written; err != nil {
		t.Error(err)
	}
	if calls := p.took(); strings.Contains(calls, "Remove") || strings.Contains(calls, "Register") || !strings.HasPrefix(calls, "UpdateDevice room") {
		t.Errorf("changes were made with %s", calls)
	}
	if _, err := p.manager.ReportDeviceStates(t.Context(), &dmi.ReportDeviceStatesRequest{DeviceName: "room", DeviceNamespace: "default", State: "offline"}); err != nil {
		t.Fatal(err)
	}
	g.untilState(t, "room", "offline", "reports the device as offline")
	g.cluster.put(t, "devices", "room", nil)
	g.cluster.put(t, "devicemodels", "thermostat", nil)
	until(t, "device and model are removed", func() (bool, string) { return p.device("room") == nil && len(p.models) == 0, "" })
	if got := p.took(); got != "RemoveDevice room, RemoveDeviceModel thermostat" {
		t.Errorf("calls: %s", got)
	}
}

// TestReportRate reports 500 values a second: none is lost, none out of order. SKERRY_DMI_SECONDS makes it longer, as the benchmark has it.
func TestReportRate(t *testing.T) {
	seconds := 3
	if s, err := strconv.Atoi(os.Getenv("SKERRY_DMI_SECONDS")); err == nil && s > 0 {
		seconds = s
	}
	const rate = 500
	g := newGateway(t)
	g.start(t)
	p := startPeer(t, g, "one.sock")
	p.mustRegister(t, "one", "demo")
	thermostat(t, g, "room", "demo", 1, object{}, "")
	until(t, "the device is registered", func() (bool, string) { d := p.device("room"); return d != nil, "" })
	p.mustReport(t, "room", "temperature", "-1")
	until(t, "the first value is kept", func() (bool, string) { return len(g.values("room/temperature")) == 1, "" })
	began := time.Now()
	count := rate * seconds
	for i := range count {
		if wait := time.Until(began.Add(time.Duration(i) * time.Second / rate)); wait > 0 {
			time.Sleep(wait)
		}
		p.mustReport(t, "room", "temperature", strconv.Itoa(i))
	}
	took := time.Since(began)
	until(t, "all values are kept", func() (bool, string) {
		n := len(g.values("room/temperature"))
		return n == count+1, strconv.Itoa(n)
	})
	for i, v := range g.values("room/temperature")[1:] {
		if v != strconv.Itoa(i) {
			t.Fatalf("value %d is %s", i, v)
		}
	}
	if g.memory.missed != 0 {
		t.Errorf("%d values were missed", g.memory.missed)
	}
	t.Logf("dmi_reports_per_s %.0f over %v, %d lost, in order", float64(count)/took.Seconds(), took.Round(time.Millisecond), g.memory.missed)
}

// TestRestarts stops and starts each side.
func TestRestarts(t *testing.T) {
	g := newGateway(t)
	g.start(t)
	p := startPeer(t, g, "one.sock")
	p.mustRegister(t, "one", "demo")
	thermostat(t, g, "room", "demo", 1, object{}, "21")
	until(t, "the device is registered", func() (bool, string) { v := p.desired("room", "setpoint"); return v == "21", v })
	p.mustReport(t, "room", "temperature", "20")
	p.mustReport(t, "room", "setpoint", "21")
	g.untilState(t, "room", "online", "")

	p.stop() // the mapper's process dies
	g.untilState(t, "room", "offline", `mapper "one"`)
	p = startPeer(t, g, "one.sock")
	if r := p.mustRegister(t, "one", "demo"); len(r.DeviceList) != 1 || r.DeviceList[0].Spec.Properties[1].Desired.Value != "21" {
		t.Errorf("the mapper came back, and got %v", r)
	}
	p.mustReport(t, "room", "temperature", "22")
	p.mustReport(t, "room", "setpoint", "21")
	g.untilState(t, "room", "online", "")
	p.took()

	g.halt() // the agent dies; the mapper goes on and does not register again
	if err := p.report(t.Context(), "room", "temperature", "23"); status.Code(err) != codes.Unavailable {
		t.Errorf("a report to an agent that is not there: %v", err)
	}
	g.start(t)
	until(t, "reports are taken again", func() (bool, string) {
		err := p.report(t.Context(), "room", "temperature", "24")
		return err == nil, status.Convert(err).Message()
	})
	p.mustReport(t, "room", "setpoint", "21")
	g.untilState(t, "room", "online", "")
	if got := p.took(); strings.Contains(got, "Register") || strings.Contains(got, "Remove") || strings.Contains(got, "UpdateDevice room") {
		t.Errorf("a device that has not changed was sent again: %s", got)
	}
	thermostat(t, g, "room", "demo", 2, object{}, "22")
	until(t, "changes reach it", func() (bool, string) { v := p.desired("room", "setpoint"); return v == "22", v })
}

// TestWedged has a mapper that accepts calls and never answers, beside one that works.
func TestWedged(t *testing.T) {
	g := newGateway(t)
	g.start(t)
	bad, good := startPeer(t, g, "bad.sock"), startPeer(t, g, "good.sock")
	bad.wedge()
	bad.mustRegister(t, "bad", "demo")
	good.mustRegister(t, "good", "tide")
	thermostat(t, g, "stuck", "demo", 1, object{}, "")
	thermostat(t, g, "fine", "tide", 1, object{}, "")
	until(t, "the other mapper gets its device", func() (bool, string) { return good.device("fine") != nil, "" })
	g.untilState(t, "stuck", "offline", `mapper "bad" (protocol demo`)
	for i := range 100 {
		good.mustReport(t, "fine", "temperature", strconv.Itoa(i))
	}
	good.mustReport(t, "fine", "setpoint", "1")
	g.untilState(t, "fine", "online", "")
	bad.unwedge()
	until(t, "the mapper that answers again gets its device", func() (bool, string) { return bad.device("stuck") != nil, "" })
	bad.mustReport(t, "stuck", "temperature", "1")
	bad.mustReport(t, "stuck", "setpoint", "1")
	g.untilState(t, "stuck", "online", "")
}

// TestStatuses are the answers to what is wrong.
func TestStatuses(t *testing.T) {
	g := newGateway(t)
	g.limits.MaxReports = 50
	g.start(t)
	p := startPeer(t, g, "one.sock")
	for name, c := range map[string]struct {
		info *dmi.MapperInfo
		code codes.Code
		text string
	}{
		"no mapper":        {nil, codes.InvalidArgument, "mapper: is missing"},
		"no socket":        {&dmi.MapperInfo{Name: "x", Protocol: "y"}, codes.InvalidArgument, "mapper.address"},
		"relative socket":  {&dmi.MapperInfo{Name: "x", Protocol: "y", Address: []byte("a.sock")}, codes.InvalidArgument, "absolute path"},
		"no protocol":      {&dmi.MapperInfo{Name: "x", Address: []byte("/a")}, codes.InvalidArgument, "mapper.protocol"},
		"built in":         {&dmi.MapperInfo{Name: "x", Protocol: "Modbus", Address: []byte("/a")}, codes.AlreadyExists, "built into"},
		"control in names": {&dmi.MapperInfo{Name: "x\ny", Protocol: "y", Address: []byte("/a")}, codes.InvalidArgument, "mapper.name"},
	} {
		_, err := p.manager.MapperRegister(t.Context(), &dmi.MapperRegisterRequest{Mapper: c.info})
		if s := status.Convert(err); s.Code() != c.code || !strings.Contains(s.Message(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.mustRegister(t, "one", "demo")
	thermostat(t, g, "room", "demo", 1, object{}, "")
	until(t, "the device is registered", func() (bool, string) { return p.device("room") != nil, "" })
	if err := p.report(t.Context(), "attic", "temperature", "1"); status.Code(err) != codes.NotFound {
		t.Errorf("a device that there is not: %v", err)
	}
	if err := p.report(t.Context(), "room", "colour", "1"); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"colour"`) {
		t.Errorf("a property that there is not: %v", err)
	}
	if err := p.report(t.Context(), "room", "temperature", strings.Repeat("1", 5<<20)); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than 4194304 bytes") {
		t.Errorf("a message of 5 MiB: %.200v", err)
	}
	var err error
	for range 500 {
		if err = p.report(t.Context(), "room", "temperature", "1"); err != nil {
			break
		}
	}
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "dmi.maxReports") {
		t.Errorf("too many reports: %v", err)
	}
	other := startPeer(t, g, "two.sock")
	if _, err := other.register(t.Context(), "two", "demo"); status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), `"one"`) {
		t.Errorf("a second mapper: %v", err)
	}
}

// TestExample builds the mapper of docs/dmi.md and runs it as a process of its own.
func TestExample(t *testing.T) {
	g := newGateway(t)
	g.start(t)
	binary := filepath.Join(g.dir, "example")
	if out, err := exec.Command("go", "build", "-o", binary, "./example").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g.cluster.model(t, "demo", object{"name": "temperature", "type": "DOUBLE", "accessMode": "ReadOnly"}, object{"name": "setpoint", "type": "DOUBLE", "accessMode": "ReadWrite"})
	g.cluster.device(t, "room", "demo", "demo", 1, object{"step": 2.5}, object{"name": "temperature", "collectCycle": int64(20)}, object{"name": "setpoint", "collectCycle": int64(20), "desired": object{"value": "30"}})
	g.untilState(t, "room", "offline", "no mapper for protocol")
	cmd := exec.Command(binary, "-dmi", g.socket(), "-socket", filepath.Join(g.dir, "example.sock"))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	until(t, "the temperature follows", func() (bool, string) {
		s, _ := g.state("room")
		return s.State == "online" && len(s.Properties) == 2 && s.Properties[0].Value == "30" && s.Properties[1].Outcome == "verified", s.Message
	})
}
