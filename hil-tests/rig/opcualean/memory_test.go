package opcualean

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua"
)

// mostPerItem is how many bytes of live heap one monitored item may cost: in the device host, in the driver, and in this server, which is
// in the same process. What the relay's client keeps of a report and what the store keeps of manifests is not counted.
const mostPerItem = 350

// TestMemoryPerItem counts what a monitored item costs when all have a value. Raise the limit only with a reason.
func TestMemoryPerItem(t *testing.T) {
	const devices, items = 4, 5000
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	served := make(chan error, 1)
	go func() { served <- s.serve(ln) }()
	t.Cleanup(func() {
		_ = ln.Close()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	var props []devicehost.Property
	for i := range items {
		props = append(props, devicehost.Property{Name: fmt.Sprintf("p%d", i), Type: "DOUBLE", Report: 60000, Visitor: map[string]any{"nodeID": fmt.Sprintf("ns=1;i=%d", i)}})
	}
	objects := []devicehost.Object{devicehost.Model("plc", "opcua", props)}
	for n := range devices {
		objects = append(objects, devicehost.Device(fmt.Sprintf("d%d", n), "plc", "opcua", map[string]any{"url": "opc.tcp://" + ln.Addr().String()}, props))
	}
	run := func(drivers ...device.Driver) (uint64, *devicehost.Gateway) {
		g, err := devicehost.Start(devicehost.Options{Drivers: drivers})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Apply(objects...); err != nil {
			t.Fatal(err)
		}
		for len(g.Host().Status()) < devices || len(drivers) > 0 && !watched(g, devices*items) {
			s.tick(time.Now())
			time.Sleep(50 * time.Millisecond)
		}
		return heap(), g
	}
	bare, without := run() // the manifests alone
	if err := without.Stop(); err != nil {
		t.Error(err)
	}
	full, with := run(opcua.New(opcua.Options{}))
	per := (int64(full) - int64(bare)) / (devices * items)
	for range 50 { // what is on its way is not what is kept: it goes
		if per <= mostPerItem {
			break
		}
		time.Sleep(100 * time.Millisecond)
		per = min(per, (int64(heap())-int64(bare))/(devices*items))
	}
	t.Logf("%d bytes of live heap for each monitored item", per)
	if per > mostPerItem {
		t.Errorf("a monitored item costs %d bytes of live heap, more than %d", per, mostPerItem)
	}
	runtime.KeepAlive(objects) // in both measurements
	if err := with.Stop(); err != nil {
		t.Error(err)
	}
}

// watched tells whether all items have a good value that came by subscription.
func watched(g *devicehost.Gateway, want int) bool {
	n := 0
	for _, d := range g.Host().Status() {
		n += d.Watched
	}
	return n == want
}

// heap is what is in memory once all that is not needed is gone.
func heap() uint64 {
	for range 3 { // what pools keep goes with the second one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
