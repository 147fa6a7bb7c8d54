package simulator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the whole file.
type Config struct {
	// Control is the address of the HTTP port for faults and values; empty: none.
	Control string   `yaml:"control"`
	Modbus  []Modbus `yaml:"modbus"`
	OPCUA   []OPCUA  `yaml:"opcua"`
}

// Modbus is one line or one TCP port with its units.
type Modbus struct {
	Listen string `yaml:"listen"` // host:port of Modbus TCP
	Line   string `yaml:"line"`   // path of a pseudo-terminal that is made for Modbus RTU
	Units  []Unit `yaml:"units"`
}

// Unit is one Modbus device.
type Unit struct {
	ID     int     `yaml:"id"`
	Name   string  `yaml:"name"`
	Points []Point `yaml:"points"`
	Fault  Fault   `yaml:"fault"`
}

// OPCUA is one OPC UA server without security.
type OPCUA struct {
	Name      string  `yaml:"name"`
	Listen    string  `yaml:"listen"`    // host:port
	Namespace string  `yaml:"namespace"` // URI of namespace 1
	Points    []Point `yaml:"points"`
	Fault     Fault   `yaml:"fault"`
}

// Point is one value.
type Point struct {
	Name    string `yaml:"name"`
	Table   string `yaml:"table"`   // Modbus: coil, discrete, input, holding
	Address int    `yaml:"address"` // Modbus: zero-based
	Type    string `yaml:"type"`    // bool, int16, uint16, int32, uint32, int64, uint64, float32, float64
	// Writable tells that clients may write it (OPC UA); Modbus coils and holding registers are.
	Writable bool    `yaml:"writable"`
	Value    float64 `yaml:"value"` // to begin with

	Signal string        `yaml:"signal"` // constant, ramp, sine, square, random, counter, follow
	Low    float64       `yaml:"low"`
	High   float64       `yaml:"high"`
	Period time.Duration `yaml:"period"` // of ramp, sine, square
	Step   float64       `yaml:"step"`   // per second, of random and counter
	Of     string        `yaml:"of"`     // the point that follow follows
	Lag    time.Duration `yaml:"lag"`    // of follow: after it 63 % of a jump have been followed
}

// FaultKind is a way to misbehave.
type FaultKind string

// The faults.
const (
	NoFault   FaultKind = "none"
	Mute      FaultKind = "mute"      // no answer
	Exception FaultKind = "exception" // every answer is an exception (Modbus) or a bad status (OPC UA)
	Slow      FaultKind = "slow"      // every answer is late
)

// Fault is how a device misbehaves.
type Fault struct {
	Kind  FaultKind     `yaml:"kind" json:"kind"`
	Code  int           `yaml:"code" json:"code"`   // of the exception; 0: 4, server device failure
	Delay time.Duration `yaml:"delay" json:"delay"` // of slow; 0: 2 s
}

func (f Fault) check() error {
	switch {
	case !slices.Contains([]FaultKind{"", NoFault, Mute, Exception, Slow}, f.Kind):
		return fmt.Errorf("fault %q; allowed: none, mute, exception, slow", f.Kind)
	case f.Code < 0 || f.Code > 255 || f.Delay < 0 || f.Delay > time.Hour:
		return errors.New("a fault's code is 0 to 255, its delay up to 1h")
	}
	return nil
}

const maxPoints = 100_000

// Parse reads a file and judges it.
func Parse(text []byte) (*Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	c := new(Config)
	if err := dec.Decode(c); err != nil {
		return nil, err
	}
	if len(c.Modbus)+len(c.OPCUA) == 0 {
		return nil, errors.New("the file describes nothing: give modbus or opcua")
	}
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	names := map[string]bool{}
	device := func(name, where string, f Fault, points []Point, modbus bool) {
		if names[name] {
			fail("%s: name %q is taken", where, name)
		}
		names[name] = true
		if err := f.check(); err != nil {
			fail("%s: %w", where, err)
		}
		checkPoints(points, where, modbus, fail)
	}
	for i := range c.Modbus {
		m := &c.Modbus[i]
		if (m.Listen == "") == (m.Line == "") {
			fail("modbus[%d]: give listen (host:port) or line (a path)", i)
		}
		ids := map[int]bool{}
		for k := range m.Units {
			u := &m.Units[k]
			where := fmt.Sprintf("modbus[%d].units[%d]", i, k)
			if u.ID < 0 || u.ID > 255 || ids[u.ID] {
				fail("%s: id %d is taken, or outside 0 to 255", where, u.ID)
			}
			ids[u.ID] = true
			if u.Name == "" {
				u.Name = fmt.Sprintf("modbus%d-%d", i, u.ID)
			}
			device(u.Name, where, u.Fault, u.Points, true)
		}
	}
	for i := range c.OPCUA {
		o := &c.OPCUA[i]
		if o.Listen == "" {
			fail("opcua[%d]: listen (host:port) is missing", i)
		}
		if o.Name == "" {
			o.Name = fmt.Sprintf("opcua%d", i)
		}
		if o.Namespace == "" {
			o.Namespace = "urn:skerry:simulator"
		}
		device(o.Name, fmt.Sprintf("opcua[%d]", i), o.Fault, o.Points, false)
	}
	return c, errors.Join(errs...)
}

func checkPoints(points []Point, where string, modbus bool, fail func(string, ...any)) {
	if len(points) > maxPoints {
		fail("%s: %d points; allowed: up to %d", where, len(points), maxPoints)
		return
	}
	names := map[string]bool{}
	for i := range points {
		names[points[i].Name] = true
	}
	if len(names) != len(points) || names[""] {
		fail("%s: each point needs a name of its own", where)
	}
	taken := map[register]string{}
	for i := range points {
		p := &points[i]
		at := fmt.Sprintf("%s.points[%s]", where, p.Name)
		if p.Signal == "" {
			p.Signal = "constant"
		}
		switch {
		case !slices.Contains(signals, p.Signal):
			fail("%s: signal %q; allowed: %s", at, p.Signal, strings.Join(signals, ", "))
		case slices.Contains([]string{"ramp", "sine", "square"}, p.Signal) && p.Period <= 0:
			fail("%s: %s needs a period, e.g. 30s", at, p.Signal)
		case p.Signal == "follow" && (!names[p.Of] || p.Of == p.Name):
			fail("%s: of %q: there is no such other point to follow", at, p.Of)
		case p.High < p.Low:
			fail("%s: high is below low", at)
		}
		if modbus {
			p.checkModbus(at, fail)
			for k := range widths[p.Type] {
				r := register{p.Table, p.Address + k}
				if other := taken[r]; other != "" {
					fail("%s: %s %d is part of point %q, too", at, r.table, r.addr, other)
				}
				taken[r] = p.Name
			}
		} else if p.Type == "" {
			p.Type = "float64"
		}
		if _, ok := widths[p.Type]; !ok && p.Type != "" {
			fail("%s: type %q; allowed: bool, int16, uint16, int32, uint32, int64, uint64, float32, float64", at, p.Type)
		}
	}
}

func (p *Point) checkModbus(at string, fail func(string, ...any)) {
	bits := p.Table == "coil" || p.Table == "discrete"
	if p.Type == "" {
		p.Type = map[bool]string{true: "bool", false: "uint16"}[bits]
	}
	switch {
	case !slices.Contains([]string{"coil", "discrete", "input", "holding"}, p.Table):
		fail("%s: table %q; allowed: coil, discrete, input, holding", at, p.Table)
	case bits != (p.Type == "bool"):
		fail("%s: coils and discrete inputs are bool, registers are not", at)
	case p.Address < 0 || p.Address+max(1, widths[p.Type]) > 65536:
		fail("%s: address %d is outside 0 to 65535", at, p.Address)
	}
	p.Writable = (p.Table == "coil" || p.Table == "holding") && p.Signal == "constant"
}
