package devicectl

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/control/controltest"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/all"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell runs commands as a person would.
type shell struct {
	t      *testing.T
	socket string
}

// run returns what was printed and the exit status.
func (s shell) run(args ...string) (out, errs string, status int) {
	s.t.Helper()
	var o, e bytes.Buffer
	err := Run(s.t.Context(), args, Env{Stdout: &o, Stderr: &e, Socket: s.socket, Node: "gw-1", Drivers: func() []device.Driver { return all.Drivers(all.Options{}) }})
	if err != nil {
		status = -1
		var exit *ExitError
		if errors.As(err, &exit) {
			status = exit.Status
		}
		e.WriteString(err.Error())
	}
	return o.String(), e.String(), status
}

// expect runs a command and checks status and what it prints.
func (s shell) expect(status int, says []string, args ...string) string {
	s.t.Helper()
	out, errs, got := s.run(args...)
	if got != status {
		s.t.Errorf("%v: exit status %d, want %d: %s%s", args, got, status, out, errs)
	}
	for _, x := range says {
		if !strings.Contains(out+errs, x) {
			s.t.Errorf("%v: %q is not in:\n%s%s", args, x, out, errs)
		}
	}
	return out
}

func TestValues(t *testing.T) {
	h := controltest.New()
	s := shell{t, controltest.Serve(t, h)}
	s.expect(0, []string{"default/meter", "online", "2 of 2", "plant/valve", "offline", "Unreachable", "10.0.0.9:502 did not answer"}, "list")
	s.expect(0, []string{"PROPERTY", "power", "230.5", "W", "good"}, "read", "meter")
	s.expect(exitNotWell, []string{"bad", "did not answer", "1 of 1 values"}, "read", "plant/valve")
	s.expect(0, []string{"verified", "22.5"}, "write", "meter", "setpoint=22.5")
	s.expect(0, []string{"verified", "23"}, "write", "meter", "setpoint", "23")
	s.expect(exitFailed, []string{"failed", "98", "read-back differs", "1 of 2 writes"}, "write", "meter", "setpoint=99", "power=1")
	s.expect(exitFailed, []string{"not a FLOAT"}, "write", "meter", "setpoint=warm")
	s.expect(0, []string{"sum", "3"}, "call", "meter", "sum", "a=1", "b=2")
	s.expect(exitFailed, []string{"no method"}, "call", "meter", "times")
	out := s.expect(exitNotWell, nil, "read", "valve", "--json")
	var got []control.Property
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got) != 1 || got[0].Quality != "bad" {
		t.Errorf("%v in %s", err, out)
	}
}

// TestListOnATerminal: a device with much that is wrong is a line among the others, and is told in full if it is named.
func TestListOnATerminal(t *testing.T) {
	h := controltest.New()
	h.Add(devices.DeviceState{Namespace: "plant", Name: "öfen", State: "unknown", Reason: "InvalidConfig",
		Message: "spec.protocol.configData.port: 70000: is out of range; allowed: a whole number from 1 to 65535; spec.protocol.configData.ip: \"x y\": is neither\x1b[2J; spec.properties[a]: wrong"})
	socket := controltest.Serve(t, h)
	for _, width := range []int{0, 40, 120} {
		var o, e bytes.Buffer
		if err := Run(t.Context(), []string{"list"}, Env{Stdout: &o, Stderr: &e, Socket: socket, Width: width}); err != nil {
			t.Fatal(err)
		}
		whole := strings.Contains(o.String(), "spec.properties[a]: wrong")
		if (width == 0) != whole {
			t.Errorf("width %d:\n%s", width, o.String())
		}
		for line := range strings.Lines(o.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width == 120 && n > width {
				t.Errorf("%d columns of %d: %s", n, width, line)
			}
		}
	}
	s := shell{t, socket}
	out := s.expect(0, nil, "list", "öfen", "meter")
	want := "device plant/öfen (-): unknown, last online never, 0 of 0 values good\n  InvalidConfig:\n    spec.protocol.configData.port: 70000: is out of range; allowed: a whole number from 1 to 65535\n" +
		"    spec.protocol.configData.ip: \"x y\": is neither·[2J\n    spec.properties[a]: wrong\ndevice default/meter (modbus): online, last online "
	if !strings.HasPrefix(out, want) {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	s.expect(exitFailed, []string{"no device pump"}, "list", "pump")
}

func TestMistakes(t *testing.T) {
	h := controltest.New()
	h.Add(devices.DeviceState{Namespace: "plant", Name: "meter"})
	s := shell{t, controltest.Serve(t, h)}
	s.expect(exitUsage, []string{"unknown verb", "browse"}, "raed")
	s.expect(exitUsage, []string{"flags stand behind the verb"}, "--json", "read", "meter")
	s.expect(exitUsage, []string{"usage: skerryctl device read DEVICE"}, "read")
	s.expect(exitUsage, []string{"NAME=VALUE"}, "write", "default/meter", "setpoint=1", "power")
	s.expect(exitUsage, []string{"flag provided"}, "read", "--nope", "x")
	s.expect(exitFailed, []string{"several namespaces", "NAMESPACE/meter"}, "read", "meter")
	s.expect(exitFailed, []string{"no device pump", "default/meter, plant/valve"}, "read", "pump")
	s.expect(exitFailed, []string{"no property", "power, setpoint"}, "read", "default/meter", "pover")
	s.expect(0, []string{"DEVICE is NAME"}, "-h")
	s.expect(0, []string{"usage: skerryctl device plan"}, "plan", "-h")
	s.socket = filepath.Join(t.TempDir(), "none")
	s.expect(exitFailed, []string{"is skerryd running?"}, "list")
}

func TestWatchShowsChanges(t *testing.T) {
	h := controltest.New()
	s := shell{t, controltest.Serve(t, h)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for h.Watchers() == 0 { //nolint:revive // until the watch is on
		}
		h.Change("default", "meter", "power", device.Int(7).Doubt(device.Uncertain, "old\x1b[2J"))
	}()
	out := s.expect(0, []string{"default/meter  power = 230.5 W", "power = 7 W  (uncertain: old·[2J)"}, "watch", "meter", "power", "--count", "1")
	<-done
	if strings.Contains(out, "\x1b") {
		t.Error("what a device says reaches the terminal as it is")
	}
}

// TestWatchEndsWithTheDevice: it does not go on in silence.
func TestWatchEndsWithTheDevice(t *testing.T) {
	h := controltest.New()
	s := shell{t, controltest.Serve(t, h)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for h.Watchers() == 0 { //nolint:revive // until the watch is on
		}
		h.Remove("default", "meter")
	}()
	s.expect(exitFailed, []string{"no device default/meter; it has: plant/valve"}, "watch", "meter")
	<-done
}

func TestBrowsePrintsManifests(t *testing.T) {
	s := shell{t, controltest.Serve(t, controltest.New())}
	s.expect(0, []string{"a  [/a]  folder", "Reset  []  method  {methodID: \"i=1\"}", "Value 1  [/v]  FLOAT, writable  {nodeID: \"ns=1;s=/v\"}"}, "browse", "meter")
	out := s.expect(0, nil, "browse", "meter", "--depth", "2", "--model", "found")
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	var m manifests
	if err := m.add([]byte(out)); err != nil || len(m.models) != 1 || len(m.devices) != 1 {
		t.Fatalf("%v in\n%s", err, out)
	}
	if p := m.models[0].Spec.Properties; len(p) != 6 || p[1].Name != "Value-1" || p[1].Type != "FLOAT" || p[1].AccessMode != "ReadWrite" || p[3].Name != "a-Value-1" || p[0].Name != "Reset" || p[0].Type != "STRING" {
		t.Errorf("%+v", p)
	}
	if d := m.devices[0]; d.Spec.NodeName != "gw-1" || d.Spec.Properties[3].Visitors.ConfigData["nodeID"] != "ns=1;s=/a/v" {
		t.Errorf("%+v", d.Spec)
	}
	s.expect(exitNotWell, []string{"limit of 2"}, "browse", "meter", "--depth", "4", "--limit", "2")
	s.expect(exitFailed, []string{"browse"}, "browse", "valve")
}

const manifest = `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: m}
spec: {protocol: modbus, properties: [{name: a, type: INT, accessMode: ReadOnly}, {name: b, type: FLOAT, accessMode: ReadOnly}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: one, creationTimestamp: null}
spec:
  deviceModelRef: {name: m}
  protocol: {protocolName: modbus, configData: {serialPort: /dev/ttyS1, slaveID: 1}}
  properties:
    - {name: a, collectCycle: 100, visitors: {configData: {register: holding, offset: 0}}}
    - {name: b, collectCycle: 50, visitors: {configData: {register: input, offset: 7, type: float32}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: two}
spec:
  deviceModelRef: {name: m}
  protocol: {protocolName: modbus, configData: {serialPort: /dev/ttyS1, slaveID: 2}}
  properties:
    - {name: a, collectCycle: 100, visitors: {configData: {register: holding, offset: 0}}}
`

// TestPlanOfManifests needs no agent.
func TestPlanOfManifests(t *testing.T) {
	s := shell{t: t}
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "m.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// 9600 8N1: 10 bits a character; 15 and 17 bytes, two silences of 3.5 characters: 22.9 and 25 ms.
	s.expect(0, []string{"line /dev/ttyS1 (9600 8N1): load 95.8 %", "device default/one: load 72.9 %", "every 50ms: 1 properties, 1 requests, 17 bytes, 25ms on the line (50.0 %)",
		"read input registers 7 to 8", "device default/two: load 22.9 %"}, "plan", "-f", write(manifest))
	s.expect(0, []string{"MORE THAN THE LINE CAN CARRY"}, "plan", "-f", write(strings.ReplaceAll(manifest, "collectCycle: 50", "collectCycle: 30")))
	s.expect(exitNotWell, []string{"InvalidVisitor", "register"}, "plan", "-f", write(strings.ReplaceAll(manifest, "register: input", "register: inptu")))
	homeless := write(strings.ReplaceAll(manifest, "deviceModelRef: {name: m}", "deviceModelRef: {name: n}"))
	s.expect(exitNotWell, []string{"ModelNotFound", "cannot be polled as it stands"}, "plan", "-f", homeless)
	if out, errs, _ := s.run("plan", "-f", homeless); strings.Count(out+errs, "ModelNotFound") != strings.Count(manifest, "deviceModelRef: {name: m}") {
		t.Errorf("what is wrong with a device is said once:\n%s%s", out, errs)
	}
	s.expect(exitFailed, []string{"document 1"}, "plan", "-f", write("kind: [\n"))
	s.expect(exitFailed, []string{"no Device in it"}, "plan", "-f", write("kind: Pod\n"))
	s.expect(exitUsage, nil, "plan")
	live := shell{t, controltest.Serve(t, controltest.New())}
	live.expect(0, []string{"line /dev/ttyS1 (9600 8E1): load 50.0 %", "device plant/valve: load 25.0 %", "27ms", "valve-1 valve-2", "device default/meter"}, "plan", "valve")
}

// TestScanWithAndWithoutAgent finds the same.
func TestScanWithAndWithoutAgent(t *testing.T) {
	srv := modbustest.Start(t)
	srv.Unit(3).SetHolding(0, 1)
	for name, socket := range map[string]string{"with": controltest.Serve(t, controltest.New(), all.Drivers(all.Options{})...), "without": filepath.Join(t.TempDir(), "none")} {
		s := shell{t, socket}
		out := s.expect(0, []string{"found unit 3", "1 found", `slaveID: 3`}, "scan", srv.Addr(), "--units", "2-4", "--timeout", "60")
		s.expect(exitNotWell, []string{"nothing answered", "of 2 asked"}, "scan", srv.Addr(), "--units", "4-5", "--timeout", "60")
		s.expect(exitUsage, []string{"--units"}, "scan", srv.Addr(), "--units", "9-4")
		s.expect(exitFailed, []string{"unknown field", "typo"}, "scan", srv.Addr(), "--set", "typo=1")
		if t.Failed() {
			t.Logf("%s an agent: %s", name, out)
		}
	}
}

func TestHistory(t *testing.T) {
	s := shell{t, controltest.Serve(t, controltest.New())}
	if out := s.expect(0, []string{"power = 300 W"}, "history", "meter", "power"); strings.Count(out, "\n") != 300 {
		t.Errorf("not all is shown:\n%s", out)
	}
	out := s.expect(0, nil, "history", "meter", "--since", "10s", "--limit", "5", "--json")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 5 || !strings.Contains(lines[4], `"value":"300"`) || !strings.Contains(lines[0], `"value":"296"`) {
		t.Errorf("%s", out)
	}
	s.expect(0, []string{"kept of default/meter: 300 values in 4.2 kB", "12 older ones", "maxBytes", "7 were dropped", "1 were dropped", "target influx (all devices): 250 values wait for it, 9 are lost"},
		"history", "meter")
	s.expect(exitNotWell, []string{"nothing was kept", "history: true", "kept of plant/valve: 0 values"}, "history", "valve")
	s.expect(exitFailed, []string{"no property"}, "history", "meter", "pover")
	s.expect(exitFailed, []string{"limit"}, "history", "meter", "--limit", "-1")
	s.expect(exitUsage, []string{"yesterday"}, "history", "meter", "--from", "yesterday")
}

func TestTrust(t *testing.T) {
	s := shell{t, controltest.Serve(t, controltest.New(), &truster{list: []device.Certificate{
		{Fingerprint: "aabbcc112233", Subject: "CN=plc", State: "rejected"}, {Fingerprint: "aabbcc445566", Subject: "CN=own", State: "own"}, {Fingerprint: "aabbcc1199", Subject: "CN=x", State: "trusted"},
	}})}
	s.expect(0, []string{"rejected", "aabbcc112233", "CN=plc"}, "trust", "list")
	s.expect(exitFailed, []string{"2 certificates"}, "trust", "accept", "AA:BB:CC:11")
	s.expect(0, []string{"trusted: CN=plc"}, "trust", "accept", "AA:BB:CC:11:22")
	s.expect(0, []string{"rejected: CN=x"}, "trust", "reject", "aabbcc1199")
	s.expect(exitFailed, []string{"no certificate"}, "trust", "accept", "aabbcc445566")
	s.expect(exitUsage, nil, "trust", "forget", "x")
}

// truster is a driver with a trust list.
type truster struct {
	device.Driver
	list []device.Certificate
}

func (d *truster) Protocols() []string                         { return []string{"opcua"} }
func (d *truster) Certificates() ([]device.Certificate, error) { return d.list, nil }
func (d *truster) Trust(string) error                          { return nil }
func (d *truster) Reject(string) error                         { return nil }

// TestImport: what import prints is what plan reads, and nothing is printed if a line was refused.
func TestImport(t *testing.T) {
	s := shell{t: t}
	file := filepath.Join(t.TempDir(), "list.csv")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("Name;Adresse;Typ;Einheit\nPower;40001;REAL;W\nState;40003.2;BOOL;\n")
	out := s.expect(0, []string{"2 points, 0 refused", "note: columns (header in line 1)"}, "import", file, "--model", "meter", "--set", "serialPort=/dev/ttyS1", "--set", "slaveID=7")
	write(out)
	s.expect(0, []string{"line /dev/ttyS1 (9600 8N1)", "1 requests", "read holding registers 0 to 2", "Power State"}, "plan", "-f", file)
	write("Name;Adresse;Typ\nPower;40001;REAL\nBroken;4000A;REAL\nSwitch;40005;FLOAT\nSwitch;40007;FLOAT\n")
	if out := s.expect(exitFailed, []string{"line 3 (Broken)", "line 5 (Switch)", "points were refused: 2 of 4", "--skip-refused"}, "import", file, "--model", "meter"); out != "" {
		t.Errorf("half a list was printed:\n%s", out)
	}
	s.expect(0, []string{"kind: Device", "nodeName: gw-1", "2 points, 2 refused"}, "import", file, "--model", "meter", "--skip-refused")
	s.expect(exitUsage, []string{"--model NAME"}, "import", file)
	write("Name;Adresse;Typ;Einheit\nPower;40001;REAL;W\n")
	for set, says := range map[string]string{"slaveID=300": "slaveID: 300", "slaveIDD=3": "slaveIDD", "serialType=UDP": "serialType"} {
		if out := s.expect(exitFailed, []string{says, "correct --set"}, "import", file, "--model", "meter", "--set", "ip=10.0.0.7", "--set", set); out != "" {
			t.Errorf("--set %s: printed all the same:\n%s", set, out)
		}
	}
	s.expect(0, []string{"kind: Device"}, "import", file, "--model", "meter", "--set", "slaveID=3") // how it is reached may be filled in later
	s.expect(exitUsage, []string{"allowed are name, address"}, "import", file, "--map", "nmae=x")
	s.expect(exitFailed, []string{"no such file"}, "import", file+"x", "--model", "m")
}
