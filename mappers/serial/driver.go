package serial

import (
	"context"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

// Driver is the driver for serial devices. It owns one port for each line in use. It is safe for concurrent use.
type Driver struct {
	captureDir string
	open       func(serialline.Config) (serialline.Line, error)

	mu      sync.Mutex
	ports   map[string]*port
	closing map[*port]bool // no session has them any more, and their lines may still be open
}

// New returns the driver.
func New() *Driver { return NewCapturing(serialline.CaptureDir) }

// NewCapturing returns the driver with another folder for captures.
func NewCapturing(dir string) *Driver {
	return &Driver{captureDir: dir, ports: make(map[string]*port), closing: make(map[*port]bool), open: openPort}
}

// NewOver returns the driver with ports that open opens, as tests and simulators do in testing/synctest.
func NewOver(open func(serialline.Config) (serialline.Line, error)) *Driver {
	d := New()
	d.open = open
	return d
}

func openPort(cfg serialline.Config) (serialline.Line, error) {
	p, err := serialline.Open(cfg)
	if err != nil {
		return nil, err // and not a *Port that is nil
	}
	return p, nil
}

// Protocols implements device.Driver.
func (d *Driver) Protocols() []string { return []string{"serial", "serial-line", "uart"} }

// Describe implements device.Driver.
func (d *Driver) Describe() device.Description {
	return device.Description{Device: describeDevice(), Visitor: describeVisitor()}
}

// Check implements device.Driver.
func (d *Driver) Check(cfg device.Config) error {
	_, err := parseConfig(cfg)
	return err
}

// Compile implements device.Driver.
func (d *Driver) Compile(cfg device.PointConfig) (device.Point, error) {
	p, err := parsePoint(cfg)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Open implements device.Driver. It does no I/O: the port is opened with the first reading.
func (d *Driver) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := newSession(d, c)
	d.mu.Lock()
	defer d.mu.Unlock()
	key := c.key()
	p := d.ports[key]
	if p == nil {
		open := d.opener(c)
		p = newPort(key, c.name(), func(ctx context.Context, tap serialline.Tap) (serialline.Line, error) {
			d.awaitOthers(ctx, p)
			return open(ctx, tap)
		})
		d.ports[key] = p
	}
	p.refs++
	p.witness.Begin(d.captureDir, c.name(), c.capture)
	s.port = p
	p.join(s)
	return s, nil
}

// release gives a session's port back; the last one closes it.
func (d *Driver) release(s *session) {
	p := s.port
	p.leave(s)
	d.mu.Lock()
	p.witness.End(s.config.capture)
	p.refs--
	last := p.refs == 0
	if last {
		delete(d.ports, p.key)
		d.closing[p] = true
	}
	d.mu.Unlock()
	if last {
		p.close()
		d.mu.Lock()
		delete(d.closing, p)
		d.mu.Unlock()
	}
}

// handover is how long a port is waited for that the same line had with other settings: a line changes device by device, and until the last
// one has let go of the old settings, they would be told that the line is in use.
const handover = 300 * time.Millisecond

// awaitOthers waits until no other port has p's line.
func (d *Driver) awaitOthers(ctx context.Context, p *port) {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for _, other := range d.others(p) {
		select {
		case <-other.done:
		case <-ctx.Done():
			return // whoever opens the line now says who has it
		}
	}
}

func (d *Driver) others(p *port) (out []*port) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.ports {
		if o != p && o.name == p.name {
			out = append(out, o)
		}
	}
	for o := range d.closing {
		if o.name == p.name {
			out = append(out, o)
		}
	}
	return out
}

// dialTimeout bounds connecting to a serial server.
const dialTimeout = 5 * time.Second

// opener returns what opens a device's line.
func (d *Driver) opener(c *config) func(ctx context.Context, tap serialline.Tap) (serialline.Line, error) {
	return func(ctx context.Context, tap serialline.Tap) (serialline.Line, error) {
		if c.address != "" {
			dial, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return serialline.Dial(dial, c.address, tap)
		}
		cfg := c.line
		cfg.Tap = tap
		return d.open(cfg)
	}
}
