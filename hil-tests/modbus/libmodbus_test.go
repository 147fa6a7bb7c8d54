//go:build integration

package modbus

import (
	"errors"
	"fmt"
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

// libmodbus starts libmodbus's own unit-test server, which misbehaves at some addresses. It ends with each connection, so it is
// started again and again.
func libmodbus(t *testing.T, mode string, env ...string) {
	t.Helper()
	const again = `trap 'kill $child 2>/dev/null; exit 0' TERM; while :; do "$0" "$1" >/dev/null & child=$!; wait $child; sleep 0.02; done`
	p := run(t, process.Spec{Name: "libmodbus", Path: "bash", Args: []string{"-c", again, filepath.Join(peers(t), "unit-test-server"), mode}, Env: env})
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("stop libmodbus: %v", err)
		}
	})
}

// serialServer passes the bytes of a serial port on to whoever connects, one after the other, as serial servers do.
func serialServer(t *testing.T, port string) int {
	t.Helper()
	n := freePort(t)
	// At most one child, ended as soon as its client has gone (-t 0): two at the port would take each other's replies.
	listen := fmt.Sprintf("tcp-listen:%d,bind=127.0.0.1,reuseaddr,fork,max-children=1,nodelay", n)
	run(t, process.Spec{Name: "socat", Path: "socat", Args: []string{"-t", "0", listen, port + ",raw,echo=0"}})
	return n
}

// TestLibmodbusUnitTestServer: what its authors thought of to break clients does not break the driver, over TCP, RTU, and RTU through a
// serial server.
func TestLibmodbusUnitTestServer(t *testing.T) {
	for _, transport := range []string{"tcp", "rtu", "rtu over tcp"} {
		t.Run(transport, func(t *testing.T) {
			mode := transport[:3]
			port := freePort(t)
			cfg := map[string]any{"ip": "127.0.0.1", "port": port, "slaveID": 255}
			env := []string{"PEER_PORT=" + strconv.Itoa(port)}
			if mode == "rtu" {
				ours, theirs := line(t)
				cfg = map[string]any{"serialPort": ours, "baudRate": 115200, "slaveID": 17}
				env = []string{"PEER_DEVICE=" + theirs}
				if transport != mode {
					cfg = map[string]any{"serialType": "RTUoverTCP", "ip": "127.0.0.1", "port": serialServer(t, ours), "slaveID": 17}
				}
			}
			cfg["timeout"], cfg["busyPause"], cfg["busyRetries"], cfg["retries"], cfg["readWrite"] = 300, 5, 2, 0, true
			libmodbus(t, mode, env...)
			d := modbus.New()
			s := devicetest.Open(t, d, device.Config{Device: "ns/dev", Protocol: cfg})
			at := func(table string, offset int, kv ...any) []device.Point {
				model := device.TypeInt
				if table == "coil" || table == "discrete" {
					model = device.TypeBoolean
				}
				return devicetest.Compile(t, d, point(model, table == "coil" || table == "holding", append([]any{"register", table, "offset", offset}, kv...)...))
			}
			read := func(pts []device.Point) (device.Value, error) {
				values := make([]device.Value, len(pts))
				err := s.Read(t.Context(), pts, values)
				return values[0], err
			}
			good := func(pts []device.Point, want string) {
				t.Helper()
				var v device.Value
				var err error
				for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					if v, err = read(pts); err == nil {
						break
					}
				}
				if err != nil || v.Text() != want {
					t.Errorf("%s: %s %s %v, want %s", pts[0], v.Text(), v.Reason, err, want)
				}
			}
			good(at("input", 0x108), "10")
			good(at("discrete", 0x1C6), "true") // 0xAC, least significant first
			good(at("discrete", 0x1C5), "false")
			for _, w := range []struct {
				pts []device.Point
				v   device.Value
			}{
				{at("holding", 0x160, "type", "int32", "wordOrder", "DCBA"), device.Int(-123456)},   // FC 23
				{at("holding", 0x162, "type", "uint16", "mask", 0xF0, "shift", 4), device.Int(0xA)}, // FC 22
				{at("holding", 0x163), device.Int(-5)},                                              // FC 23
				{at("coil", 0x130), device.Bool(true)},                                              // FC 5
				{at("coil", 0x131, "writeMultiple", true), device.Bool(true)},                       // FC 15
			} {
				res := s.Write(t.Context(), []device.Write{{Point: w.pts[0], Value: w.v}})[0]
				if res.Err != nil || !res.Verified {
					t.Errorf("%s = %s: %+v", w.pts[0], w.v.Text(), res)
				}
			}
			if v, err := read(at("holding", 0x170)); err != nil || !strings.Contains(v.Reason, "server device busy (6)") {
				t.Errorf("a busy register: %s, %v", v.Reason, err)
			}
			if v, err := read(at("holding", 0x180)); err != nil || !strings.Contains(v.Reason, "illegal data address (2)") {
				t.Errorf("beyond the end: %s, %v", v.Reason, err)
			}
			for name, pts := range map[string][]device.Point{
				"another transaction or slave": at("holding", 0x171), "500 ms too late": at("holding", 0x172), "one register too few": at("holding", 0x160, "type", "int32"),
			} {
				for range 2 {
					v, err := read(pts)
					if !errors.Is(err, device.ErrUnreachable) || v.Quality != device.Bad {
						t.Errorf("%s: %s, %v", name, v.Text(), err)
					}
					t.Logf("%s: %v", name, err)
					good(at("input", 0x108), "10")
				}
			}
			if mode == "tcp" {
				good(at("holding", 0x173), "0") // 5 ms between its bytes
			}
		})
	}
}
