package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Simulator is running devices. The caller of Start calls Close.
type Simulator struct {
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	devices []*Device
	addrs   []string // where each entry of the file listens: modbus first, then opcua
	control string

	mu     sync.Mutex
	open   map[io.Closer]bool
	closed bool
}

// Start starts all devices of a configuration.
func Start(ctx context.Context, cfg *Config, log *slog.Logger) (*Simulator, error) {
	s := &Simulator{log: log, open: make(map[io.Closer]bool)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Simulator) start(ctx context.Context, cfg *Config) error {
	for i := range cfg.Modbus {
		if err := s.startModbus(ctx, &cfg.Modbus[i]); err != nil {
			return err
		}
	}
	for i := range cfg.OPCUA {
		if err := s.startOPCUA(ctx, &cfg.OPCUA[i]); err != nil {
			return err
		}
	}
	if cfg.Control != "" {
		return s.startControl(ctx, cfg.Control)
	}
	return nil
}

func (s *Simulator) startModbus(ctx context.Context, m *Modbus) error {
	units := make(map[byte]*Device, len(m.Units))
	for _, u := range m.Units {
		d := newDevice(u.Name, u.Points, u.Fault, time.Now())
		units[byte(u.ID)] = d
		s.devices = append(s.devices, d)
	}
	if m.Line != "" {
		t, err := openTerminal(m.Line)
		if err != nil {
			return fmt.Errorf("simulate a Modbus line: %w", err)
		}
		s.hold(t)
		s.addrs = append(s.addrs, m.Line)
		s.work.Go(func() { s.serveRTU(t, units) })
		s.log.Info("Modbus RTU", "line", m.Line, "units", len(units))
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", m.Listen)
	if err != nil {
		return fmt.Errorf("simulate Modbus TCP: %w", err)
	}
	s.hold(ln)
	s.addrs = append(s.addrs, ln.Addr().String())
	s.work.Go(func() { s.serveTCP(ln, units) })
	s.log.Info("Modbus TCP", "address", ln.Addr().String(), "units", len(units))
	return nil
}

// Device returns a device by its name, nil if there is none.
func (s *Simulator) Device(name string) *Device {
	for _, d := range s.devices {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Addrs returns where the entries of the file listen, host:port or the path of a line: those of modbus in order, then those of opcua.
func (s *Simulator) Addrs() []string { return s.addrs }

// Control returns the address of the HTTP port, empty if there is none.
func (s *Simulator) Control() string { return s.control }

// Close ends all devices and waits for them.
func (s *Simulator) Close() error {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	open := slices.Collect(maps.Keys(s.open))
	clear(s.open)
	s.mu.Unlock()
	errs := make([]error, len(open))
	for i, c := range open { // at a time: an OPC UA server waits for its clients, and meanwhile the others would go on answering
		s.work.Go(func() { errs[i] = c.Close() })
	}
	s.work.Wait()
	return errors.Join(errs...)
}

// hold has something closed by Close; false if that was called already.
func (s *Simulator) hold(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.open[c] = true
	return true
}

// drop closes something before Close.
func (s *Simulator) drop(c io.Closer) {
	s.mu.Lock()
	held := s.open[c]
	delete(s.open, c)
	s.mu.Unlock()
	if held {
		_ = c.Close()
	}
}
