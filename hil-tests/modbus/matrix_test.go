//go:build integration

package modbus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus"
)

// peers is where `make modbus-peers` puts what Debian and npm do not ship ready to run.
func peers(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("SKERRY_BIN")
	if bin == "" {
		bin = "../../build/bin"
	}
	dir, err := filepath.Abs(filepath.Join(bin, "modbus-peers"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "unit-test-server")); err != nil {
		t.Fatalf("%v: run make modbus-peers", err)
	}
	return dir
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// run starts a program that lives as long as the test.
func run(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	spec.Log, spec.Grace = filepath.Join(t.TempDir(), "log"), 2*time.Second
	p, err := process.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill() // it may have ended by itself
		if t.Failed() {
			t.Logf("%s: %s", spec.Name, p.LogTail(20))
		}
	})
	return p
}

// line makes a pair of serial ports.
func line(t *testing.T) (ours, theirs string) {
	t.Helper()
	dir := t.TempDir()
	ours, theirs = filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
	run(t, process.Spec{Name: "socat", Path: "socat", Args: []string{"pty,raw,echo=0,link=" + ours, "pty,raw,echo=0,link=" + theirs}})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ours); err == nil {
			return ours, theirs
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// peer is a device that we did not write, and how to reach it.
type peer struct {
	config map[string]any
	start  func() *process.Process
	bounds bool // it refuses addresses that do not exist
	names  bool // it knows FC 43/14
}

func pymodbusPeer(t *testing.T, mode string) peer {
	port, ours, theirs := freePort(t), "", ""
	where := strconv.Itoa(port)
	cfg := map[string]any{"serialType": mode, "ip": "127.0.0.1", "port": port}
	if mode == "rtu" || mode == "ascii" {
		ours, theirs = line(t)
		where, cfg = theirs, map[string]any{"serialType": mode, "serialPort": ours, "baudRate": 115200}
	}
	return peer{config: cfg, bounds: true, names: mode != "ascii" && mode != "asciiovertcp", start: func() *process.Process {
		return run(t, process.Spec{Name: "pymodbus", Path: "/usr/bin/python3", Args: []string{"testdata/pymodbus_peer.py", mode, where}})
	}}
}

func jsmodbusPeer(t *testing.T, mode string) peer {
	port := freePort(t)
	kind := "rtu"
	var bridge process.Spec
	cfg := map[string]any{"serialType": mode, "ip": "127.0.0.1", "port": port}
	switch mode {
	case "tcp":
		kind = "tcp"
	case "rtu":
		// The port goes away with the device, as an adapter does that is unplugged.
		ours := filepath.Join(t.TempDir(), "ours")
		bridge = process.Spec{Name: "socat", Path: "socat", Args: []string{fmt.Sprintf("tcp:127.0.0.1:%d,forever,interval=0.1,nodelay", port), "pty,raw,echo=0,link=" + ours}}
		cfg = map[string]any{"serialType": mode, "serialPort": ours, "baudRate": 115200}
	}
	cfg["maskWrite"] = false // it says nothing to FC 22, instead of refusing it
	return peer{config: cfg, start: func() *process.Process {
		if bridge.Path != "" {
			run(t, bridge)
		}
		return run(t, process.Spec{Name: "jsmodbus", Path: "node", Args: []string{"testdata/jsmodbus_peer.js", filepath.Join(peers(t), "node_modules"), kind, strconv.Itoa(port)}})
	}}
}

// TestMatrix is the table of peers and transports: types and orders, bits, batches, exceptions, and the return of a device
// that lost power.
func TestMatrix(t *testing.T) {
	for name, make := range map[string]func(*testing.T) peer{
		"pymodbus TCP":            func(t *testing.T) peer { return pymodbusPeer(t, "tcp") },
		"pymodbus RTU":            func(t *testing.T) peer { return pymodbusPeer(t, "rtu") },
		"pymodbus ASCII":          func(t *testing.T) peer { return pymodbusPeer(t, "ascii") },
		"pymodbus RTU over TCP":   func(t *testing.T) peer { return pymodbusPeer(t, "rtuovertcp") },
		"pymodbus ASCII over TCP": func(t *testing.T) peer { return pymodbusPeer(t, "asciiovertcp") },
		"jsmodbus TCP":            func(t *testing.T) peer { return jsmodbusPeer(t, "tcp") },
		"jsmodbus RTU over TCP":   func(t *testing.T) peer { return jsmodbusPeer(t, "rtuovertcp") },
		"jsmodbus RTU":            func(t *testing.T) peer { return jsmodbusPeer(t, "rtu") },
	} {
		t.Run(name, func(t *testing.T) {
			p := make(t)
			proc := p.start()
			p.config["timeout"] = 500
			d := modbus.New()
			s := devicetest.Open(t, d, device.Config{Device: "ns/dev", Protocol: p.config})
			awaken(t, s, d)
			readsAll(t, s, d)
			writesAll(t, s, d)
			if p.bounds {
				refusals(t, s, d)
			}
			if p.names {
				entries, err := s.(device.Browser).Browse(t.Context(), "", 10)
				if err != nil || len(entries) < 3 || entries[0].Name != "VendorName = pymodbus" {
					t.Errorf("identification: %+v, %v", entries, err)
				}
			}
			if err := proc.Kill(); err != nil {
				t.Fatal(err)
			}
			pts := devicetest.Compile(t, d, point(device.TypeInt, false, "register", "input", "offset", 0))
			if err := s.Read(t.Context(), pts, make1()); !errors.Is(err, device.ErrUnreachable) {
				t.Errorf("a device without power: %v", err)
			}
			p.start()
			awaken(t, s, d)
			readsAll(t, s, d)
		})
	}
}

func make1() []device.Value { return make([]device.Value, 1) }

// awaken waits until the device answers.
func awaken(t *testing.T, s device.Session, d device.Driver) {
	t.Helper()
	pts := devicetest.Compile(t, d, point(device.TypeInt, false, "register", "input", "offset", 0))
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := s.Read(t.Context(), pts, make1())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not there after a minute: %v", err)
		}
	}
}

// readsAll reads 190 input registers and 190 discrete inputs, in a few requests.
func readsAll(t *testing.T, s device.Session, d device.Driver) {
	t.Helper()
	var cfgs []device.PointConfig
	for i := range 190 {
		cfgs = append(cfgs, point(device.TypeInt, false, "register", "input", "offset", i), point(device.TypeBoolean, false, "register", "discrete", "offset", i))
	}
	pts := devicetest.Compile(t, d, cfgs...)
	values := make([]device.Value, len(pts))
	if err := s.Read(t.Context(), pts, values); err != nil {
		t.Fatal(err)
	}
	for i := range 190 {
		if got := values[2*i]; got.AsInt() != int64(3*i+7) || got.Quality != device.Good {
			t.Fatalf("input register %d: %s %s", i, got.Text(), got.Reason)
		}
		if got := values[2*i+1]; got.AsBool() != (i%3 == 0) || got.Quality != device.Good {
			t.Fatalf("discrete input %d: %s %s", i, got.Text(), got.Reason)
		}
	}
}

// writesAll writes values of all kinds, and sees them verified and read.
func writesAll(t *testing.T, s device.Session, d device.Driver) {
	t.Helper()
	at := func(typ device.Type, offset int, kv ...any) device.PointConfig {
		return point(typ, true, append([]any{"register", "holding", "offset", offset}, kv...)...)
	}
	cases := []struct {
		cfg device.PointConfig
		v   device.Value
	}{
		{at(device.TypeInt, 0, "type", "int16"), device.Int(-2)},
		{at(device.TypeInt, 1, "type", "int32", "wordOrder", "CDAB"), device.Int(-70000)},
		{at(device.TypeInt, 3, "type", "uint64", "wordOrder", "HGFEDCBA"), device.Uint(1<<63 + 5)},
		{at(device.TypeFloat, 7, "type", "float32", "wordOrder", "BADC"), device.Float32(-21.5)},
		{at(device.TypeDouble, 9, "type", "float64"), device.Float(1e-300)},
		{at(device.TypeFloat, 13, "type", "float16"), device.Float32(0.5)},
		{at(device.TypeInt, 14, "type", "bcd32"), device.Int(12345678)},
		{at(device.TypeFloat, 16, "type", "fixed32"), device.Float(-3.25)},
		{at(device.TypeFloat, 18, "type", "int16", "scale", 0.1), device.Float32(-12.3)},
		{at(device.TypeString, 19, "type", "string", "limit", 6, "byteOrder", "BA"), device.String("pump north")},
		{at(device.TypeBytes, 25, "limit", 2), device.Bytes([]byte{0, 1, 254, 255})},
		{at(device.TypeBoolean, 27, "bit", 15), device.Bool(true)},
		{at(device.TypeInt, 27, "type", "uint8-low"), device.Int(200)},
		{at(device.TypeInt, 27, "type", "uint16", "mask", "0x0F00", "shift", 8), device.Int(9)},
		{point(device.TypeBoolean, true, "register", "coil", "offset", 7), device.Bool(true)},
		{point(device.TypeBoolean, true, "register", "coil", "offset", 8, "writeMultiple", true), device.Bool(true)},
	}
	var cfgs []device.PointConfig
	var writes []device.Write
	for _, c := range cases {
		cfgs = append(cfgs, c.cfg)
	}
	pts := devicetest.Compile(t, d, cfgs...)
	for i, c := range cases {
		writes = append(writes, device.Write{Point: pts[i], Value: c.v})
	}
	for i, res := range s.Write(t.Context(), writes) {
		if res.Err != nil || !res.Verified || res.Readback.Text() != cases[i].v.Text() {
			t.Errorf("%s = %s: %+v", pts[i], cases[i].v.Text(), res)
		}
	}
	values := make([]device.Value, len(pts))
	if err := s.Read(t.Context(), pts, values); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if v.Text() != cases[i].v.Text() {
			t.Errorf("%s is %s %s, want %s", pts[i], v.Text(), v.Reason, cases[i].v.Text())
		}
	}
}

// refusals reads across the end of what the device has.
func refusals(t *testing.T, s device.Session, d device.Driver) {
	t.Helper()
	pts := devicetest.Compile(t, d, point(device.TypeInt, false, "register", "holding", "offset", 198), point(device.TypeInt, false, "register", "holding", "offset", 199), point(device.TypeInt, false, "register", "holding", "offset", 200))
	for range 2 {
		values := make([]device.Value, 3)
		if err := s.Read(t.Context(), pts, values); err != nil {
			t.Fatal(err)
		}
		if values[0].Quality != device.Good || values[1].Quality != device.Good || !strings.Contains(values[2].Reason, "illegal data address (2): read holding register 200") {
			t.Errorf("%s, %s, %s", values[0].Reason, values[1].Reason, values[2].Reason)
		}
	}
}
