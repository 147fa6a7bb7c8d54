package opcua

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/pki"
)

// Options are what the driver needs of its surroundings.
type Options struct {
	// StateDir is the agent's state directory: certificates are kept in opcua/pki below it. Empty: none are kept, and only
	// connections without security can be opened.
	StateDir string
	Log      *slog.Logger // nil: slog.Default()
}

// Driver is the OPC UA driver. It owns one connection for each configuration that has an open session. It is safe for
// concurrent use.
type Driver struct {
	log      *slog.Logger
	stateDir string
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	mu        sync.Mutex
	endpoints map[config]*endpoint
	store     *pki.Store // opened when it is first needed
}

// New returns the driver.
func New(o Options) *Driver {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Driver{log: o.Log, stateDir: o.StateDir, dial: (&net.Dialer{}).DialContext, endpoints: make(map[config]*endpoint)}
}

// Protocols implements device.Driver.
func (d *Driver) Protocols() []string { return []string{"opcua", "opc-ua", "opc.ua"} }

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
	p, err := compile(cfg)
	if err != nil {
		return nil, err
	}
	if p.extra().method != "" {
		return methodPoint{p}, nil
	}
	return p, nil
}

// Open implements device.Driver.
func (d *Driver) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.endpoints[c.shared()]
	if e == nil {
		e = startEndpoint(d, c.shared())
		d.endpoints[c.shared()] = e
	}
	e.users++
	s := &session{endpoint: e, driver: d, device: cfg.Device, config: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// release gives an endpoint back; the last one ends it, and waits for that.
func (d *Driver) release(e *endpoint) {
	d.mu.Lock()
	e.users--
	last := e.users == 0
	if last {
		delete(d.endpoints, e.config)
	}
	d.mu.Unlock()
	if last {
		e.stop()
	}
}

// certificates opens the store of certificates.
func (d *Driver) certificates() (*pki.Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.store != nil {
		return d.store, nil
	}
	if d.stateDir == "" {
		return nil, fmt.Errorf("the agent keeps no certificates: it has no state directory")
	}
	store, err := pki.Open(filepath.Join(d.stateDir, "opcua", "pki"))
	if err != nil {
		return nil, err
	}
	d.store = store
	return store, nil
}

// Certificates implements device.Truster.
func (d *Driver) Certificates() ([]device.Certificate, error) {
	s, err := d.certificates()
	if err != nil {
		return nil, err
	}
	return s.Certificates()
}

// Trust implements device.Truster.
func (d *Driver) Trust(fingerprint string) error {
	s, err := d.certificates()
	if err != nil {
		return err
	}
	if err := s.Trust(fingerprint); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.endpoints { // the server may be one that was refused
		e.hurry()
	}
	return nil
}

// Reject implements device.Truster.
func (d *Driver) Reject(fingerprint string) error {
	s, err := d.certificates()
	if err != nil {
		return err
	}
	return s.Reject(fingerprint)
}
