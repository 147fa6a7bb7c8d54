package modbus

import (
	"net"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

// TestPollingThroughTheHostAllocatesNothingForAPoint: what host and driver allocate in steady state is for a reading and not for its
// points. The slave, which runs in the same process, allocates nothing.
func TestPollingThroughTheHostAllocatesNothingForAPoint(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	slave, served := modbusslave.New(modbusslave.Options{}), make(chan error, 1)
	go func() { served <- slave.Serve(ln) }()
	g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{modbus.New()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = g.Stop()
		_ = ln.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	var props []devicehost.Property
	for i := range 2000 {
		props = append(props, devicehost.Property{Name: "p" + strconv.Itoa(i), Type: "FLOAT", Collect: 20,
			Visitor: map[string]any{"register": "holding", "offset": int64(2 * i), "type": "float32"}})
	}
	config := map[string]any{"ip": "127.0.0.1", "port": int64(ln.Addr().(*net.TCPAddr).Port)}
	if err := g.Apply(devicehost.Model("m", "modbus", props), devicehost.Device("d", "m", "modbus", config, props)); err != nil {
		t.Fatal(err)
	}
	// until waits until so many points more have been read.
	until := func(points int64) {
		t.Helper()
		_, from := slave.Requests()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if _, now := slave.Requests(); now-from >= 2*points {
				return
			}
			if time.Now().After(end) {
				t.Fatal("nothing is polled")
			}
		}
	}
	until(20_000)
	var before, after runtime.MemStats
	_, from := slave.Requests()
	runtime.ReadMemStats(&before)
	until(200_000)
	_, to := slave.Requests()
	runtime.ReadMemStats(&after)
	points := float64(to-from) / 2
	perPoint := float64(after.Mallocs-before.Mallocs) / points
	t.Logf("%.4f allocations and %.1f bytes for a point", perPoint, float64(after.TotalAlloc-before.TotalAlloc)/points)
	if perPoint > 0.05 {
		t.Errorf("%.3f allocations for a point", perPoint)
	}
}
