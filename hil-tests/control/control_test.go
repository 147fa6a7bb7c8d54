//go:build integration

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/control"
)

const manifest = `apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: m}
spec:
  protocol: modbus
  properties:
    - {name: level, type: INT, accessMode: ReadOnly, unit: cm}
    - {name: setpoint, type: FLOAT, accessMode: ReadWrite, minimum: "0", maximum: "100", unit: "°C"}
    - {name: beyond, type: INT, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: tank}
spec:
  deviceModelRef: {name: m}
  nodeName: gw-1
  protocol: {protocolName: modbus, configData: {ip: 127.0.0.1, port: PORT, slaveID: 1, timeout: 500}}
  properties:
    - {name: level, collectCycle: 200, visitors: {configData: {register: input, offset: 3}}}
    - {name: setpoint, collectCycle: 200, visitors: {configData: {register: holding, offset: 10, limit: 1, scale: 0.1, history: true}}}
    - {name: beyond, collectCycle: 60000, visitors: {configData: {register: holding, offset: 250}}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: meter}
spec:
  deviceModelRef: {name: m}
  nodeName: gw-1
  protocol: {protocolName: modbus, configData: {serialPort: LINE, baudRate: 115200, slaveID: 1, timeout: 500}}
  properties:
    - {name: level, collectCycle: 1000, visitors: {configData: {register: input, offset: 5}}}
    - {name: setpoint, collectCycle: 1000, visitors: {configData: {register: holding, offset: 20, type: float32}}}
`

// world is a gateway with a device on TCP, one on a line, and a line with a device that nobody has configured.
type world struct {
	*gateway
	port             int
	used, usedDevice string
	free, freeDevice string
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{port: freePort(t)}
	w.used, w.usedDevice = line(t, dir, "used")
	w.free, w.freeDevice = line(t, dir, "free")
	pymodbus(t, "tcp", strconv.Itoa(w.port))
	pymodbus(t, "rtu", w.usedDevice)
	pymodbus(t, "rtu", w.freeDevice)
	w.gateway = newGateway(t, strings.NewReplacer("PORT", strconv.Itoa(w.port), "LINE", w.used).Replace(manifest))
	w.start()
	w.online()
	return w
}

func (w *world) online() {
	w.t.Helper()
	eventually(w.t, "both devices are read", func() error {
		if out, _ := w.run("list"); strings.Count(out, " online ")+strings.Count(out, " unhealthy ") != 2 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// TestCommissioning is the way of docs/commissioning.md on devices of pymodbus.
func TestCommissioning(t *testing.T) {
	w := newWorld(t)
	w.expect(0, []string{"default/tank", "default/meter", "modbus"}, "list")
	w.expect(3, []string{"level     16", "cm", "good", "beyond", "bad", "illegal data address"}, "read", "tank")
	w.expect(0, []string{"level     22"}, "read", "default/meter", "level")
	w.expect(0, []string{"verified", "21.5"}, "write", "tank", "setpoint=21.5")
	w.expect(0, []string{"verified", "0.25"}, "write", "meter", "setpoint", "0.25")
	w.expect(0, []string{"setpoint  21.5"}, "read", "tank", "setpoint")

	eventually(t, "the written value is in the history", func() error {
		if out, _ := w.run("history", "tank", "setpoint"); !strings.Contains(out, "setpoint = 21.5 °C") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	w.expect(3, []string{"nothing was kept"}, "history", "meter")

	var plan control.LinePlan
	out := w.expect(0, nil, "plan", "meter", "--json")
	if err := json.Unmarshal([]byte(out), &plan); err != nil || len(plan.Devices) != 1 || plan.Load <= 0 || plan.Load > 0.05 || len(plan.Devices[0].Cycles[0].Requests) != 2 {
		t.Errorf("%v: %s", err, out)
	}
	w.expect(0, []string{"every 200ms: 2 properties, 2 requests", "read holding register 250", "line 127.0.0.1:"}, "plan", "tank")
	w.expect(0, []string{"pymodbus", "PM"}, "browse", "tank")

	w.expect(1, []string{"used by default/meter", "was not begun"}, "scan", w.used)
	w.expect(1, []string{"used by default/tank"}, "scan", fmt.Sprintf("127.0.0.1:%d", w.port))
	w.expect(0, []string{"found unit 1, baud rate 9600, parity none  pymodbus PM", "1 found", "configData: {baudRate: 9600, parity: \"none\", serialPort: "}, "scan", w.free,
		"--units", "1-3", "--bauds", "9600,19200", "--parities", "none,even", "--first")
	w.expect(0, []string{"level     22"}, "read", "meter", "level")
	w.expect(3, []string{"nothing answered"}, "scan", w.free, "--units", "2-3", "--bauds", "9600", "--parities", "none")
}

// TestImportedListIsRead: from a vendor's list, by manifests, to values.
func TestImportedListIsRead(t *testing.T) {
	dir := t.TempDir()
	port := freePort(t)
	pymodbus(t, "tcp", strconv.Itoa(port))
	list := filepath.Join(dir, "list.csv")
	if err := os.WriteFile(list, []byte("Signal;Register;Typ;Faktor;Einheit;Zugriff\nFüllstand;30004;UINT16;0,1;m;R\nSoll;40011;INT16;;;R/W\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	maker := newGateway(t, "kind: DeviceModel\nmetadata: {name: none}\nspec: {protocol: modbus, properties: []}")
	out := maker.expect(0, []string{"2 points, 0 refused"}, "import", list, "--model", "tank", "--set", "ip=127.0.0.1", "--set", fmt.Sprintf("port=%d", port))
	yaml := out[strings.Index(out, "apiVersion:"):strings.LastIndex(out, "2 points")]
	g := newGateway(t, strings.TrimSpace(yaml))
	g.start()
	eventually(t, "the imported device is read", func() error {
		if out, status := g.run("read", "tank"); status != 0 || !regexp.MustCompile(`Füllstand\s+1\.6\s+m\s+good`).MatchString(out) {
			return fmt.Errorf("%d %s", status, out)
		}
		return nil
	})
	g.expect(0, []string{"verified"}, "write", "tank", "Soll=-5")
}

// TestWatchAndKill: changes come as they happen; a watch says when the agent is killed, and works again with the next one.
func TestWatchAndKill(t *testing.T) {
	w := newWorld(t)
	seen, done := make(chan string, 1), make(chan int, 1)
	go func() {
		out, status := w.runIn(context.Background(), "watch", "tank", "setpoint", "--count", "1", "--changes", "--json")
		seen <- out
		done <- status
	}()
	stop := time.After(20 * time.Second)
	for n := 1; ; n++ { // until the watch is on
		w.expect(0, nil, "write", "tank", fmt.Sprintf("setpoint=%d", n))
		select {
		case out := <-seen:
			if status := <-done; status != 0 || !strings.Contains(out, `"name":"setpoint"`) || !strings.Contains(out, `"unit":"°C"`) {
				t.Errorf("%d %s", status, out)
			}
		case <-stop:
			t.Fatal("no change was seen")
		default:
			continue
		}
		break
	}
	cmd := exec.Command(w.ctl, "device", "-config", w.config, "watch", "tank")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	must[int](t)(out.Read(make([]byte, 1))) // the first value: the watch is on
	if err := w.proc.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out) // until it ends
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "was skerryd stopped?") {
		t.Errorf("after the kill: %v %s", err, &errs)
	}
	w.expect(1, []string{"is skerryd running?"}, "read", "tank")
	w.expect(0, []string{"no agent runs", "found unit 1"}, "scan", w.free, "--units", "1-1", "--bauds", "9600", "--parities", "none")
	w.start() // the socket's file is still there
	w.online()
	w.expect(0, nil, "read", "tank", "level")
}

// TestWrongInputs: what cannot be right is refused with what would be.
func TestWrongInputs(t *testing.T) {
	w := newWorld(t)
	w.expect(1, []string{"no device pump", "default/meter, default/tank"}, "read", "pump")
	w.expect(1, []string{"no property \"levle\"", "level, setpoint"}, "read", "tank", "levle")
	w.expect(1, []string{"not a FLOAT"}, "write", "tank", "setpoint=warm")
	w.expect(1, []string{"maximum 100"}, "write", "tank", "setpoint=101")
	w.expect(1, []string{"ReadOnly"}, "write", "tank", "level=1")
	w.expect(1, []string{"start"}, "call", "tank", "start")
	w.expect(1, []string{"unknown field"}, "scan", w.free, "--set", "nonsense=1")
	w.expect(1, []string{"plugged in"}, "scan", w.free+"-not")
	w.expect(1, []string{"profibus"}, "scan", w.free, "--protocol", "profibus")
	w.expect(2, []string{"--units"}, "scan", w.free, "--units", "0-999")
	w.expect(2, []string{"unknown verb"}, "raed")
	w.expect(0, []string{"skerryctl device VERB"}, "-h")
}

// TestSlowClients: who opens watches and reads nothing delays neither polling nor other commands.
func TestSlowClients(t *testing.T) {
	w := newWorld(t)
	for range 6 {
		conn := must[net.Conn](t)(net.Dial("unix", w.socket()))
		defer conn.Close()
		must[int](t)(io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	half := must[net.Conn](t)(net.Dial("unix", w.socket())) // a request that never ends
	defer half.Close()
	must[int](t)(io.WriteString(half, "POST /v1/devices/default/tank/write HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{"))
	for n := range 20 {
		w.expect(0, []string{"verified"}, "write", "tank", fmt.Sprintf("setpoint=%d", n))
	}
	w.expect(0, []string{"16", "good"}, "read", "tank", "level")
}
