package mqtt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/skerry/skerry/mappers/device"
)

// Protocol is the protocolName of devices that speak MQTT themselves.
const Protocol = "mqtt"

// states are what a device may say of itself, and whether it can be reached then.
var states = map[string]bool{"online": true, "ok": true, "unhealthy": true, "offline": false, "unknown": false}

func lower(s string) string { return strings.ToLower(s) }

// Driver makes devices of the MQTT clients that say values on $hw/events/device topics: what they publish as actual is what a session reads and is told of, and
// what is to be written is published as the device's delta. It is safe for concurrent use, and exists without a broker, too.
type Driver struct {
	mu       sync.Mutex
	sessions map[string]*session // by NAMESPACE/NAME, the newest
	deliver  func(device string, delta map[string]string) error
}

// NewDriver returns a driver. Nothing can be written until a Broker has it.
func NewDriver() *Driver { return &Driver{sessions: make(map[string]*session)} }

// Protocols implements device.Driver.
func (*Driver) Protocols() []string { return []string{Protocol} }

// Describe implements device.Driver: there is nothing to configure.
func (*Driver) Describe() device.Description { return device.Description{} }

// Check implements device.Driver.
func (*Driver) Check(cfg device.Config) error {
	return device.NewFields("spec.protocol.configData", cfg.Protocol).Err(nil)
}

type point struct {
	property string
	typ      device.Type
}

func (p *point) String() string { return "property " + p.property + " over MQTT" }

// Compile implements device.Driver.
func (*Driver) Compile(cfg device.PointConfig) (device.Point, error) {
	if err := device.NewFields(cfg.Path, cfg.Visitor).Err(nil); err != nil {
		return nil, err
	}
	return &point{cfg.Property, cfg.Type}, nil
}

// Open implements device.Driver.
func (d *Driver) Open(_ context.Context, cfg device.Config) (device.Session, error) {
	if err := d.Check(cfg); err != nil {
		return nil, err
	}
	s := &session{driver: d, device: cfg.Device, values: make(map[string]device.Value), closed: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions[cfg.Device] = s
	return s, nil
}

var errNoSession = errors.New("the device is being started: try again")

// push takes what a device says: values, a state, or both. None of it changes without the rest.
func (d *Driver) push(name string, values map[string]device.Value, state string) error {
	d.mu.Lock()
	s := d.sessions[name]
	d.mu.Unlock()
	if s == nil {
		return errNoSession
	}
	return s.take(values, state)
}

func (d *Driver) serve(deliver func(device string, delta map[string]string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deliver = deliver
}

// session is a device.
type session struct {
	driver *Driver
	device string

	mu     sync.Mutex // also makes notify one call at a time
	values map[string]device.Value
	state  string // "": nothing has come from the device
	told   []*told
	done   bool
	closed chan struct{}
}

// told is a subscription of the host.
type told struct {
	points []device.Point
	notify func(i int, v device.Value)
}

func (s *session) take(values map[string]device.Value, state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return errNoSession
	}
	before := s.state
	for name, v := range values {
		s.values[name] = v
	}
	if state != "" {
		s.state = state
	} else if !states[s.state] {
		s.state = "online" // who sends values is there
	}
	for _, t := range s.told {
		for i, p := range t.points {
			name := p.(*point).property //nolint:errcheck,forcetypeassert // Compile made it
			if _, fresh := values[name]; fresh || s.state != before {
				s.tell(t, i, name)
			}
		}
	}
	return nil
}

// tell tells a subscription of a value, if there is one. The lock is held.
func (s *session) tell(t *told, i int, name string) {
	if v, ok := s.values[name]; ok {
		t.notify(i, s.judge(v))
	}
}

// judge lowers a value's quality by what the device says of itself. The lock is held.
func (s *session) judge(v device.Value) device.Value {
	switch {
	case !states[s.state]:
		return v.Doubt(device.Uncertain, s.away())
	case s.state == "unhealthy":
		return v.Doubt(device.Uncertain, "the device says that it is unhealthy")
	}
	return v
}

func (s *session) away() string {
	if s.state == "" {
		return "nothing has come from the device over MQTT yet"
	}
	return "the device's state over MQTT is " + s.state
}

// Read implements device.Session: it returns what came last.
func (s *session) Read(ctx context.Context, points []device.Point, values []device.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := ctx.Err()
	switch {
	case err != nil:
	case s.done:
		err = device.ErrClosed
	case !states[s.state]:
		err = device.Unreachable("%s", s.away())
	}
	for i, p := range points {
		name := p.(*point).property //nolint:errcheck,forcetypeassert // Compile made it
		v, ok := s.values[name]
		switch {
		case err != nil:
			values[i] = device.Value{Reason: err.Error()}
		case !ok:
			values[i] = device.Value{Reason: "no value of it has come over MQTT yet"}
		default:
			values[i] = s.judge(v)
		}
	}
	return err
}

// Write implements device.Session: it publishes what the device should show. The device answers with actual values, in its own time.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	s.mu.Lock()
	err := ctx.Err()
	switch {
	case err != nil:
	case s.done:
		err = device.ErrClosed
	case !states[s.state]:
		err = device.Unreachable("%s", s.away())
	}
	s.mu.Unlock()
	delta := make(map[string]string, len(writes))
	for _, w := range writes {
		delta[w.Point.(*point).property] = w.Value.Text() //nolint:errcheck,forcetypeassert // Compile made it
	}
	if err == nil {
		s.driver.mu.Lock()
		deliver := s.driver.deliver
		s.driver.mu.Unlock()
		if deliver == nil {
			err = device.Unreachable("the MQTT broker is not running")
		} else {
			err = deliver(s.device, delta)
		}
	}
	out := make([]device.WriteResult, len(writes))
	for i := range out {
		out[i].Err = err
	}
	return out
}

// Subscribe implements device.Subscriber.
func (s *session) Subscribe(ctx context.Context, points []device.Point, notify func(i int, v device.Value)) error {
	t := &told{points, notify}
	s.mu.Lock()
	if s.done {
		s.mu.Unlock()
		return device.ErrClosed
	}
	s.told = append(s.told, t)
	for i, p := range points {
		s.tell(t, i, p.(*point).property) //nolint:errcheck,forcetypeassert // Compile made it
	}
	s.mu.Unlock()
	var err error
	select {
	case <-ctx.Done():
	case <-s.closed:
		err = fmt.Errorf("subscription of %s: %w", s.device, device.ErrClosed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.told {
		if x == t {
			s.told = append(s.told[:i:i], s.told[i+1:]...)
			break
		}
	}
	return err
}

// Close implements device.Session.
func (s *session) Close() error {
	s.mu.Lock()
	if !s.done {
		s.done = true
		close(s.closed)
	}
	s.mu.Unlock()
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	if s.driver.sessions[s.device] == s {
		delete(s.driver.sessions, s.device)
	}
	return nil
}
