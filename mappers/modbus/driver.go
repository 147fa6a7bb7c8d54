package modbus

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

// Driver is the Modbus driver. It owns one endpoint for each address that has an open session. It is safe for
// concurrent use.
type Driver struct {
	dialer     dialer
	captureDir string
	haste      time.Duration // divides back-offs
	port       func(serialline.Config) (line, error)

	layouts layouts

	mu        sync.Mutex
	endpoints map[string]*endpoint
	scans     map[string]bool // lines that are being scanned, by config.place
}

// Options are how the driver reaches devices. The zero Options are what an agent wants; tests and simulators bring connections and
// lines of their own, with which the driver runs in testing/synctest.
type Options struct {
	// Dial opens a connection to host:port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Port opens a serial port.
	Port func(cfg serialline.Config) (serialline.Line, error)
	// CaptureDir is where captures are kept.
	CaptureDir string
	// Haste divides the waits before a device that did not answer is asked again; 0 is 1. Tests that wait in real time want more.
	Haste int
}

// New returns the driver.
func New() *Driver { return NewWith(Options{}) }

// NewWith returns the driver with other ways to reach devices.
func NewWith(o Options) *Driver {
	d := &Driver{dialer: &net.Dialer{}, port: openPort, captureDir: cmp.Or(o.CaptureDir, serialline.CaptureDir), haste: time.Duration(max(o.Haste, 1)), endpoints: make(map[string]*endpoint), scans: make(map[string]bool)}
	if o.Dial != nil {
		d.dialer = dialFunc(o.Dial)
	}
	if o.Port != nil {
		d.port = func(cfg serialline.Config) (line, error) { return o.Port(cfg) }
	}
	return d
}

func openPort(cfg serialline.Config) (line, error) { return serialline.Open(cfg) }

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// Protocols implements device.Driver.
func (d *Driver) Protocols() []string {
	return []string{"modbus", "modbus-tcp", "modbustcp", "modbus-rtu", "modbusrtu"}
}

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
	p.layout = d.layouts.share(p.layout)
	return p, nil
}

// Open implements device.Driver. It does no I/O: the endpoint connects with the first request.
func (d *Driver) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := d.acquire(&c, cfg.Device)
	if err != nil {
		return nil, err
	}
	return &session{driver: d, name: cfg.Device, config: c, endpoint: e, closed: make(chan struct{})}, nil
}

// acquire returns the endpoint of a configuration, shared by all sessions that use it.
func (d *Driver) acquire(c *config, name string) (*endpoint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := c.key()
	e := d.endpoints[key]
	if e == nil {
		e = newEndpoint(key, c.framing, d.opener(c), d.haste)
		d.endpoints[key] = e
	}
	if err := e.fits(c); err != nil {
		return nil, err
	}
	e.refs++
	e.users = append(e.users, name)
	e.witness.Begin(d.captureDir, e.file(), c.capture)
	return e, nil
}

// fits refuses a device that wants a serial line in another way than those that have it open.
func (e *endpoint) fits(c *config) error {
	o, ok := e.opener.(*serialOpener)
	if !ok || e.framing == c.framing && o.cfg.SameLine(*c.serial) {
		return nil
	}
	return &device.FieldError{Field: configPath + ".serialPort", Value: c.serial.Path,
		Problem: fmt.Sprintf("other devices use the line with %s as %s, this one wants %s as %s", e.framing, o.cfg, c.framing, c.serial),
		Allowed: "the same serialType and line settings for all devices of a line"}
}

// opener returns what opens the line of a configuration.
func (d *Driver) opener(c *config) opener {
	switch {
	case c.serial != nil:
		return &serialOpener{cfg: *c.serial, port: d.unlessScanned}
	case c.listen != "":
		return &listenOpener{addr: c.listen, from: c.from, news: make(chan struct{}, 1)}
	case c.backup != "":
		return &tcpOpener{dialer: d.dialer, addrs: []string{c.endpoint, c.backup}}
	}
	return &tcpOpener{dialer: d.dialer, addrs: []string{c.endpoint}}
}

// release gives an endpoint back; the last one closes it.
func (d *Driver) release(e *endpoint, c *config, name string) {
	d.mu.Lock()
	if i := slices.Index(e.users, name); i >= 0 {
		e.users = slices.Delete(e.users, i, i+1)
	}
	e.witness.End(c.capture)
	e.refs--
	last := e.refs == 0
	if last {
		delete(d.endpoints, e.key)
	}
	d.mu.Unlock()
	if last {
		e.close()
	}
}
