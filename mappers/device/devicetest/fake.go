package devicetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Fake is a driver for tests of the host: its devices are cells in memory, and its methods make it misbehave. It passes
// the conformance suite. Its protocol is "fake"; device configData has `id` (required), visitor configData has `cell`
// (required) and `max`, the largest number that the cell can hold (default: any). A visitor with `method` stands for a method, which
// returns its arguments in reverse. NewTelling makes one whose sessions tell of changes. All methods may be called concurrently.
type Fake struct {
	mu    sync.Mutex
	units map[string]*unit
	opens map[string]int
	live  int
	fault Fault
	reads int

	telling bool
	subs    map[*fakeSubscription]bool
	refused map[string]bool // cells that can only be polled
}

// Fault is a misbehaviour of all sessions of a Fake.
type Fault uint8

// The faults.
const (
	None       Fault = iota
	Off              // devices are switched off: ErrUnreachable
	Hang             // calls do not return before their context ends
	Wedge            // calls do not even return then, until the fault is changed
	Panic            // Read and Write panic
	OpenPanics       // Open panics
	OpenFails        // Open returns an error
)

type unit struct {
	cells  map[string]device.Value
	writes []string // "cell=value", in order
	refuse map[string]string
	sticky map[string]bool // accepts writes and does not change
}

// NewFake returns a fake driver without devices; Set makes them.
func NewFake() *Fake { return &Fake{units: make(map[string]*unit), opens: make(map[string]int)} }

func (f *Fake) unit(id string) *unit {
	u := f.units[id]
	if u == nil {
		u = &unit{cells: make(map[string]device.Value), refuse: make(map[string]string), sticky: make(map[string]bool)}
		f.units[id] = u
	}
	return u
}

// Set changes a cell at the device.
func (f *Fake) Set(id, cell string, v device.Value) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unit(id).cells[cell] = v
	f.tell(id, cell, v.At(time.Now()))
}

// Refuse makes the device refuse reads and writes of a cell for a reason; an empty reason ends that.
func (f *Fake) Refuse(id, cell, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unit(id).refuse[cell] = reason
}

// Stick makes the device accept writes of a cell without changing it.
func (f *Fake) Stick(id, cell string, stuck bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unit(id).sticky[cell] = stuck
}

// SetFault makes all sessions misbehave.
func (f *Fake) SetFault(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
	if fault == None { // whoever subscribed meanwhile gets the current values
		for id, u := range f.units {
			for cell, v := range u.cells {
				f.tell(id, cell, v)
			}
		}
	}
}

// Writes returns what was written to a device so far, "cell=value" in order.
func (f *Fake) Writes(id string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.unit(id).writes...)
}

// Opens returns how often a session with a device was opened.
func (f *Fake) Opens(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opens[id]
}

// Live returns the number of open sessions.
func (f *Fake) Live() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live
}

// Protocols implements device.Driver.
func (f *Fake) Protocols() []string { return []string{"fake"} }

// Describe implements device.Driver.
func (f *Fake) Describe() device.Description {
	return device.Description{
		Device: []device.FieldDoc{{Name: "id", Meaning: "which device", Default: "required"}},
		Visitor: []device.FieldDoc{
			{Name: "cell", Meaning: "which cell", Default: "required"}, {Name: "max", Meaning: "largest number that it can hold", Default: "any"},
			{Name: "method", Meaning: "which method", Default: "none"},
		},
	}
}

// Check implements device.Driver.
func (f *Fake) Check(cfg device.Config) error {
	_, err := f.check(cfg)
	return err
}

func (f *Fake) check(cfg device.Config) (string, error) {
	r := device.NewFields("spec.protocol.configData", cfg.Protocol)
	r.Require("a string", "id")
	id := r.Text("", "id")
	return id, r.Err(f.Describe().Device)
}

type fakePoint struct {
	cell  string
	max   float64
	cycle time.Duration
}

func (p *fakePoint) String() string { return "cell " + p.cell }

// CheckValue implements device.ValueChecker.
func (p *fakePoint) CheckValue(v device.Value) error {
	if v.AsFloat() > p.max {
		return fmt.Errorf("%s does not fit the cell", v.Text())
	}
	return nil
}

// Compile implements device.Driver.
func (f *Fake) Compile(cfg device.PointConfig) (device.Point, error) {
	r := device.NewFields(cfg.Path, cfg.Visitor)
	if name := r.Text("", "method"); name != "" {
		if err := r.Err(f.Describe().Visitor); err != nil {
			return nil, err
		}
		return &fakeMethod{name}, nil
	}
	r.Require("a string", "cell")
	p := &fakePoint{cell: r.Text("", "cell"), max: r.Float(math.MaxFloat64, "max"), cycle: cfg.Cycle}
	if err := r.Err(f.Describe().Visitor); err != nil {
		return nil, err
	}
	return p, nil
}

// Open implements device.Driver.
func (f *Fake) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	id, err := f.check(cfg)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opens[id]++
	switch f.fault {
	case OpenPanics:
		panic("fake: Open panics")
	case OpenFails:
		return nil, fmt.Errorf("fake: %w: the port is in use", device.ErrUnreachable)
	case None, Off, Hang, Wedge, Panic:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.live++
	s := &fakeSession{driver: f, id: id, closed: make(chan struct{})}
	if f.telling {
		return &tellingSession{s}, nil
	}
	return s, nil
}

type fakeSession struct {
	driver *Fake
	id     string
	once   sync.Once
	closed chan struct{}
}

// meet applies the current fault.
func (s *fakeSession) meet(ctx context.Context) error {
	for {
		select {
		case <-s.closed:
			return device.ErrClosed
		default:
		}
		s.driver.mu.Lock()
		fault := s.driver.fault
		s.driver.mu.Unlock()
		switch fault {
		case Off:
			return fmt.Errorf("fake %s: %w", s.id, device.ErrUnreachable)
		case Panic:
			panic("fake: the driver lost its mind")
		case Hang:
			select {
			case <-ctx.Done():
				return fmt.Errorf("fake %s: %w: %w", s.id, device.ErrUnreachable, ctx.Err())
			case <-s.closed:
				return device.ErrClosed
			case <-time.After(10 * time.Millisecond):
			}
		case Wedge:
			time.Sleep(10 * time.Millisecond)
			continue
		case None, OpenPanics, OpenFails:
			return ctx.Err()
		}
	}
}

// Read implements device.Session.
func (s *fakeSession) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	err := s.meet(ctx)
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	now := time.Now()
	s.driver.reads++
	u := s.driver.unit(s.id)
	for i, p := range points {
		cell := p.(*fakePoint).cell
		v, ok := u.cells[cell]
		switch {
		case err != nil:
			v = device.BadValue(err.Error(), now)
		case u.refuse[cell] != "":
			v = device.BadValue(u.refuse[cell], now)
		case !ok:
			v = device.BadValue("no such cell", now)
		}
		values[i] = v.At(now)
	}
	return err
}

// Write implements device.Session.
func (s *fakeSession) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	err := s.meet(ctx)
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	u := s.driver.unit(s.id)
	out := make([]device.WriteResult, len(writes))
	for i, w := range writes {
		cell := w.Point.(*fakePoint).cell
		switch {
		case err != nil:
			out[i].Err = err
			continue
		case u.refuse[cell] != "":
			out[i].Err = errors.New(u.refuse[cell])
			continue
		}
		u.writes = append(u.writes, cell+"="+w.Value.Text())
		if u.sticky[cell] {
			out[i].Readback = u.cells[cell].At(time.Now())
			out[i].Err = fmt.Errorf("%w: wrote %s, the device shows %s", device.ErrNotVerified, w.Value.Text(), out[i].Readback.Text())
			continue
		}
		u.cells[cell] = w.Value
		s.driver.tell(s.id, cell, w.Value.At(time.Now()))
		out[i].Readback, out[i].Verified = w.Value.At(time.Now()), true
	}
	return out
}

// Close implements device.Session.
func (s *fakeSession) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.driver.mu.Lock()
		defer s.driver.mu.Unlock()
		s.driver.live--
	})
	return nil
}
