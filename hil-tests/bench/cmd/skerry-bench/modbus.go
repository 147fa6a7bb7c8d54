package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/modbusslave"
	"github.com/skerry/skerry/hil-tests/rig/pacedline"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
	"github.com/skerry/skerry/mappers/serialline"
)

// modbusOptions are flags of the modbus benchmark.
type modbusOptions struct{ only string }

func (m *modbusOptions) register(fs *flag.FlagSet) {
	fs.StringVar(&m.only, "only", "", "one `part`: lines, dead, allocations, tcp")
}

// modbusBench measures Modbus lines in this process, and Modbus TCP with the real agent behind the real relay and control plane.
func modbusBench(ctx context.Context, r *bench.Report, o options) error {
	dir, err := os.MkdirTemp("", "skerry-modbus-")
	if err != nil {
		return fmt.Errorf("make a folder for the lines: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"lines", func() error {
			for _, baud := range []int{9600, 19200, 115200} {
				if err := lineUse(ctx, r, o, dir, baud); err != nil {
					return err
				}
			}
			return nil
		}},
		{"dead", func() error { return deadSlave(ctx, r, o, dir) }},
		{"allocations", func() error { return hostAllocations(ctx, r, o) }},
		{"tcp", func() error { return modbusTCP(ctx, r, o) }},
	} {
		if o.modbus.only != "" && o.modbus.only != part.name {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// How long lines are watched, and what is read of each slave.
const (
	lineTime  = 10 * time.Second
	bareTime  = 5 * time.Second
	lineRegs  = 40 // 20 float32: 85 characters a reply
	deadWarm  = 15 * time.Second
	deadTime  = 60 * time.Second
	deadBaud  = 19200
	deadUnits = 32
	deadUnit  = 10

	allocDevices = 10
	allocPoints  = 1000
	allocCycle   = 100 * time.Millisecond
)

// benchLine is a paced line with a driver on it.
type benchLine struct {
	line   *pacedline.Line
	slave  *modbusslave.Slave
	driver *modbus.Driver
	cfg    serialline.Config
	path   string
}

// openLine makes a line on which the slave needs as long as a frame's end takes to be seen, 3.5 characters.
func openLine(dir, name string, baud int) (*benchLine, error) {
	b := &benchLine{slave: modbusslave.New(modbusslave.Options{}), driver: modbus.New(), path: filepath.Join(dir, name)}
	b.cfg = serialline.Config{Path: b.path, Baud: baud, DataBits: 8, Parity: serialline.ParityEven, StopBits: 1}
	var err error
	b.line, err = pacedline.Open(pacedline.Options{
		Path: b.path, Config: b.cfg, Latency: b.cfg.FrameGap(), Size: pacedline.RTUSize, Answer: pacedline.RTUAnswer(b.slave.Answer),
	})
	return b, err
}

// open opens the session of a unit, with lineRegs registers' worth of points.
func (b *benchLine) open(ctx context.Context, unit int) (device.Session, []device.Point, error) {
	s, err := b.driver.Open(ctx, device.Config{Device: fmt.Sprintf("default/unit-%d", unit), Protocol: map[string]any{
		"serialPort": b.path, "baudRate": b.cfg.Baud, "parity": "even", "slaveID": unit,
	}})
	if err != nil {
		return nil, nil, err
	}
	points := make([]device.Point, 0, lineRegs/2)
	for i := range lineRegs / 2 {
		p, err := b.driver.Compile(device.PointConfig{Property: "p", Type: device.TypeFloat, Visitor: map[string]any{"register": "holding", "offset": 2 * i, "type": "float32"}})
		if err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
		points = append(points, p)
	}
	return s, points, nil
}

// bareUse is what a loop of system calls makes of the line, which asks for the same: how much of the ceiling the pacer and this machine leave.
func bareUse(b *benchLine) (float64, error) {
	request := binary.LittleEndian.AppendUint16([]byte{1, 3, 0, 0, 0, lineRegs}, pacedline.CRC([]byte{1, 3, 0, 0, 0, lineRegs}))
	before, began := b.line.Report(), time.Now()
	if _, err := pacedline.Loop(b.path, request, 5+2*lineRegs, b.cfg.FrameGap(), bareTime); err != nil {
		return 0, err
	}
	return (b.line.Report().Busy - before.Busy).Seconds() / time.Since(began).Seconds(), nil
}

// lineUse compares what a line carries with what the standard's arithmetic gives.
func lineUse(ctx context.Context, r *bench.Report, o options, dir string, baud int) (err error) {
	o.say("one slave on a line of %d baud, 8E1, for %v: requests of 8 characters, replies of %d, 3.5 characters before each", baud, lineTime, 5+2*lineRegs)
	b, err := openLine(dir, fmt.Sprintf("line-%d", baud), baud)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.line.Close()) }()
	bare, err := bareUse(b)
	if err != nil {
		return err
	}
	r.Add(fmt.Sprintf("rtu_%d_bare_loop_ratio", baud), bare, "of the ceiling")
	s, points, err := b.open(ctx, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(s.Close(), err) }()
	values := make([]device.Value, len(points))
	read := func() error {
		if err := s.Read(ctx, points, values); err != nil {
			return err
		}
		if v := values[len(values)-1]; v.Quality != device.Good || v.AsFloat() != float64(len(values)-1) {
			return fmt.Errorf("the line delivered %s (%s)", v.Text(), v.Reason)
		}
		return nil
	}
	if err := read(); err != nil { // opens the port
		return err
	}
	before, began, n := b.line.Report(), time.Now(), 0
	for ; time.Since(began) < lineTime; n++ {
		if err := read(); err != nil {
			return err
		}
	}
	took, after := time.Since(began), b.line.Report()
	r.Add(fmt.Sprintf("rtu_%d_ratio", baud), (after.Busy-before.Busy).Seconds()/took.Seconds(), "of the ceiling")
	r.Add(fmt.Sprintf("rtu_%d_requests_per_s", baud), float64(n)/took.Seconds(), "requests/s")
	r.Add(fmt.Sprintf("rtu_%d_rig_late_us", baud), float64((after.Late-before.Late).Microseconds())/float64(n), "µs/request")
	r.Add(fmt.Sprintf("rtu_%d_idle_us", baud), float64((after.Idle-before.Idle).Microseconds())/float64(n), "µs/request")
	if early := after.Early; early > 0 {
		return fmt.Errorf("%d of %d requests came before the line had been silent for 3.5 characters", early, after.Requests)
	}
	return nil
}
