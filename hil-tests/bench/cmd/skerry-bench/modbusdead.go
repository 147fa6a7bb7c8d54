package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

// deadSlave compares how often 31 slaves of a line are read when all 32 answer with how often they are when one is dead. Both lines
// run at the same time, so that whatever else the machine does costs both.
func deadSlave(ctx context.Context, r *bench.Report, o options, dir string) error {
	o.say("%d slaves on a line of %d baud, one of them dead, beside a line on which all answer, for %v after %v", deadUnits, deadBaud, deadTime, deadWarm)
	var wg sync.WaitGroup
	var whole, rest int64
	var errWhole, errRest error
	wg.Go(func() { whole, errWhole = readAll(ctx, dir, false) })
	wg.Go(func() { rest, errRest = readAll(ctx, dir, true) })
	wg.Wait()
	if err := errors.Join(errWhole, errRest); err != nil {
		return err
	}
	r.Add("dead_slave_readings_per_s", float64(rest)/deadTime.Seconds(), "readings/s")
	r.Add("dead_slave_loss_pct", 100*float64(whole-rest)/float64(whole), "%")
	return nil
}

// readAll reads all slaves of a line, each as fast as it can be, and counts the readings of all but deadUnit.
func readAll(ctx context.Context, dir string, dead bool) (readings int64, err error) {
	b, err := openLine(dir, fmt.Sprintf("dead-%v", dead), deadBaud)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.line.Close()) }()
	b.slave.SetSilent(deadUnit, dead)
	ctx, cancel := context.WithTimeout(ctx, deadWarm+deadTime)
	defer cancel()
	var count atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	warm := time.Now().Add(deadWarm)
	for unit := 1; unit <= deadUnits; unit++ {
		s, points, err := b.open(ctx, unit)
		if err != nil {
			cancel()
			return 0, err
		}
		wg.Go(func() {
			defer func() { _ = s.Close() }()
			values := make([]device.Value, len(points))
			for ctx.Err() == nil {
				err := s.Read(ctx, points, values)
				switch {
				case err != nil:
					_ = sleep(ctx, 100*time.Millisecond) // as a host does, which asks again with the next cycle
				case unit != deadUnit && time.Now().After(warm):
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return count.Load(), nil
}

// hostAllocations counts what the device host and the driver allocate for points that do not change.
func hostAllocations(ctx context.Context, r *bench.Report, o options) (err error) {
	o.say("%d devices of %d points at %v on the device host, in this process", allocDevices, allocPoints, allocCycle)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	slave, served := modbusslave.New(modbusslave.Options{}), make(chan error, 1)
	go func() { served <- slave.Serve(ln) }()
	g, err := devicehost.Start(devicehost.Options{Drivers: []device.Driver{modbus.New()}})
	if err != nil {
		return errors.Join(err, ln.Close(), <-served)
	}
	defer func() { err = errors.Join(err, g.Stop(), ln.Close(), <-served) }()
	var props []devicehost.Property
	for i := range allocPoints {
		props = append(props, devicehost.Property{Name: "p" + strconv.Itoa(i), Type: "FLOAT", Collect: allocCycle.Milliseconds(),
			Visitor: map[string]any{"register": "holding", "offset": int64(2 * i), "type": "float32"}})
	}
	objects := []devicehost.Object{devicehost.Model("m", "modbus", props)}
	for i := range allocDevices {
		objects = append(objects, devicehost.Device("d"+strconv.Itoa(i), "m", "modbus",
			map[string]any{"ip": "127.0.0.1", "port": int64(ln.Addr().(*net.TCPAddr).Port), "slaveID": int64(i + 1)}, props))
	}
	if err := g.Apply(objects...); err != nil {
		return err
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	var before, after runtime.MemStats
	_, read0 := slave.Requests()
	runtime.ReadMemStats(&before)
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	runtime.ReadMemStats(&after)
	_, read1 := slave.Requests()
	if read1 == read0 {
		return errors.New("nothing was polled")
	}
	r.Add("allocs_per_point", float64(after.Mallocs-before.Mallocs)/(float64(read1-read0)/2), "allocations/point")
	return nil
}
