package modbus

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

// plant puts 1,000 float32 values of each of 10 units behind each of n servers of a slave on a host.
func plant(t testing.TB, g *devicehost.Gateway, s *modbusslave.Slave, n int, config map[string]any) {
	t.Helper()
	var props []devicehost.Property
	for i := range 1000 {
		props = append(props, devicehost.Property{Name: fmt.Sprintf("p%d", i), Type: "FLOAT", Report: 60000,
			Visitor: map[string]any{"register": "holding", "offset": int64(2 * i), "type": "float32"}})
	}
	objects := []devicehost.Object{devicehost.Model("m", "modbus", props)}
	for srv := range n {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(ln) }()
		t.Cleanup(func() {
			_ = ln.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		for unit := range 10 {
			cfg := map[string]any{"ip": "127.0.0.1", "port": int64(ln.Addr().(*net.TCPAddr).Port), "slaveID": int64(unit + 1)}
			for k, v := range config {
				cfg[k] = v
			}
			objects = append(objects, devicehost.Device(fmt.Sprintf("d%d-%d", srv, unit), "m", "modbus", cfg, props))
		}
	}
	if err := g.Apply(objects...); err != nil {
		t.Fatal(err)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHost is what 15 seconds of polling 100,000 points cost host, driver and slave together. With HOST_HEAP=FILE a profile of what is
// then in memory is written.
func BenchmarkHost(b *testing.B) {
	s := modbusslave.New(modbusslave.Options{Change: 0.1, Changing: 2000})
	g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{modbus.New()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = g.Stop() })
	plant(b, g, s, 10, nil)
	time.Sleep(8 * time.Second)
	_, read0 := s.Requests()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	start, used := time.Now(), cpu()
	const seconds = 15
	for b.Loop() {
		for range seconds {
			time.Sleep(time.Second)
			s.Tick()
		}
	}
	took, busy := time.Since(start), cpu()-used
	runtime.ReadMemStats(&m1)
	_, read1 := s.Requests()
	points := float64(read1-read0) / 2
	b.ReportMetric(points/took.Seconds(), "points/s")
	b.ReportMetric(busy.Seconds()/took.Seconds(), "cores")
	b.ReportMetric(float64(m1.Mallocs-m0.Mallocs)/points, "allocs/point")
	b.ReportMetric(float64(m1.TotalAlloc-m0.TotalAlloc)/points, "B/point")
	runtime.GC()
	runtime.ReadMemStats(&m1)
	b.ReportMetric(float64(m1.HeapAlloc)/1e6, "heap_MB")
	b.ReportMetric(float64(g.Records()), "records")
	if path := os.Getenv("HOST_HEAP"); path != "" {
		f, _ := os.Create(path)
		_ = pprof.WriteHeapProfile(f)
		_ = f.Close()
	}
}
