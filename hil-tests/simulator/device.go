package simulator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

var signals = []string{"constant", "ramp", "sine", "square", "random", "counter", "follow"}

// widths is how many registers a type takes.
var widths = map[string]int{"bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4}

// defaultDelay is how late a slow answer is.
const defaultDelay = 2 * time.Second

// Device is one Modbus unit or one OPC UA server.
type Device struct {
	Name string

	mu        sync.Mutex
	points    []*point
	byName    map[string]*point
	registers map[register]place
	began     time.Time
	moved     time.Time
	fault     Fault
}

// point is a Point with its value.
type point struct {
	Point
	value float64
}

func newDevice(name string, points []Point, fault Fault, now time.Time) *Device {
	d := &Device{Name: name, byName: make(map[string]*point, len(points)), registers: make(map[register]place), began: now, moved: now, fault: fault}
	for _, p := range points {
		pt := &point{Point: p, value: p.Value}
		d.points = append(d.points, pt)
		d.byName[p.Name] = pt
		for i := range widths[p.Type] {
			if p.Table != "" {
				d.registers[register{p.Table, p.Address + i}] = place{pt, i}
			}
		}
	}
	d.move(now)
	return d
}

// SetFault makes the device misbehave from now on.
func (d *Device) SetFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = f
	return nil
}

// Fault returns how the device misbehaves.
func (d *Device) Fault() Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fault
}

// delay is how late a slow device answers.
func (f Fault) delay() time.Duration {
	switch {
	case f.Kind != Slow:
		return 0
	case f.Delay == 0:
		return defaultDelay
	default:
		return f.Delay
	}
}

// Set changes a value as if at the device's own panel. A point with a signal goes on from there, or is overwritten by it.
func (d *Device) Set(name string, value float64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.byName[name]
	if p == nil {
		return fmt.Errorf("device %q has no point %q", d.Name, name)
	}
	p.value = value
	return nil
}

// Values returns all values by name.
func (d *Device) Values() map[string]float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.move(time.Now())
	out := make(map[string]float64, len(d.points))
	for _, p := range d.points {
		out[p.Name] = p.value
	}
	return out
}

// move lets all signals go on to now. It is called with the lock held.
func (d *Device) move(now time.Time) {
	dt := now.Sub(d.moved).Seconds()
	if dt < 0.01 && now != d.began {
		return
	}
	d.moved = now
	t := now.Sub(d.began)
	for _, p := range d.points {
		phase := 0.0
		if p.Period > 0 {
			phase = math.Mod(t.Seconds()/p.Period.Seconds(), 1)
		}
		switch p.Signal {
		case "ramp":
			p.value = p.Low + phase*(p.High-p.Low)
		case "sine":
			p.value = p.Low + (1+math.Sin(2*math.Pi*phase))/2*(p.High-p.Low)
		case "square":
			p.value = p.Low
			if phase >= 0.5 {
				p.value = p.High
			}
		case "random":
			p.value = min(p.High, max(p.Low, p.value+(rand.Float64()*2-1)*p.Step*dt))
		case "counter":
			p.value += p.Step * dt
			if p.High > p.Low && p.value > p.High {
				p.value = p.Low + math.Mod(p.value-p.Low, p.High-p.Low)
			}
		case "follow":
			p.value += (d.byName[p.Of].value - p.value) * (1 - math.Exp(-dt/max(p.Lag.Seconds(), 1e-3)))
		}
	}
}

// register is one address of a Modbus table.
type register struct {
	table string
	addr  int
}

// place is where a register's value is: a point, and which of its registers it is.
type place struct {
	*point
	word int
}

// find returns the point of a table that covers an address; its point is nil if there is none.
func (d *Device) find(table string, addr int) place { return d.registers[register{table, addr}] }
