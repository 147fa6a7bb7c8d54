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

	mu    sync.Mutex
	ports map[string]*port
}

// New returns the driver.
func New() *Driver { return NewCapturing(serialline.CaptureDir) }

// NewCapturing returns the driver with another folder for captures.
func NewCapturing(dir string) *Driver {
	return &Driver{captureDir: dir, ports: make(map[string]*port)}
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
		p = newPort(key, c.name(), opener(c))
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
	}
	d.mu.Unlock()
	if last {
		p.close()
	}
}

// dialTimeout bounds connecting to a serial server.
const dialTimeout = 5 * time.Second

// opener returns what opens a device's line.
func opener(c *config) func(ctx context.Context, tap serialline.Tap) (serialline.Line, error) {
	return func(ctx context.Context, tap serialline.Tap) (serialline.Line, error) {
		if c.address != "" {
			dial, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return serialline.Dial(dial, c.address, tap)
		}
		cfg := c.line
		cfg.Tap = tap
		p, err := serialline.Open(cfg)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}
