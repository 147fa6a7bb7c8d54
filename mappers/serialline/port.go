package serialline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"go.bug.st/serial"
	"golang.org/x/sys/unix"
)

// Port is an open serial port: a Line, and its modem lines. See Line for who may call what.
type Port struct {
	cfg  Config
	ctl  serial.Port // mode and modem lines
	file *os.File    // data; in Go's poller, so that deadlines work and no thread waits
	raw  syscall.RawConn

	until  deadline // for the waits that are not in the poller
	closed chan struct{}
	once   sync.Once
}

var _ Line = (*Port)(nil)

// Open opens a port exclusively, sets it up and throws away what it had received. It does not wait for a carrier. Errors are of
// type *OpenError.
func Open(cfg Config) (*Port, error) {
	cfg = cfg.withDefaults()
	fd, err := openTTY(cfg.Path)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), cfg.Path)
	p := &Port{cfg: cfg, file: file, closed: make(chan struct{}), until: deadline{from: time.Now()}}
	if err := p.setUp(); err != nil {
		_ = p.Close() // the first error says more
		return nil, err
	}
	return p, nil
}

func (p *Port) setUp() error {
	var err error
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return &OpenError{Path: p.cfg.Path, Problem: "cannot be used", Err: err}
	}
	if err := lock(p.raw, p.cfg.Path); err != nil {
		return err
	}
	mode := &serial.Mode{BaudRate: p.cfg.Baud, DataBits: p.cfg.DataBits, Parity: parities[p.cfg.Parity], StopBits: serial.OneStopBit}
	if p.cfg.StopBits == 2 {
		mode.StopBits = serial.TwoStopBits
	}
	if p.ctl, err = serial.Open(p.cfg.Path, mode); err != nil {
		return &OpenError{Path: p.cfg.Path, Problem: "cannot be set to " + p.cfg.String(), Err: plain(err)}
	}
	if err := p.checkBaud(); err != nil {
		return err
	}
	if err := p.setFlow(); err != nil {
		return err
	}
	if err := p.setDirection(); err != nil {
		return err
	}
	_, err = p.Discard()
	return err
}

var parities = map[Parity]serial.Parity{
	ParityNone: serial.NoParity, ParityEven: serial.EvenParity, ParityOdd: serial.OddParity, ParityMark: serial.MarkParity, ParitySpace: serial.SpaceParity,
}

// plain takes the wrapping off an error of the system.
func plain(err error) error {
	var no unix.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// Config returns the settings.
func (p *Port) Config() Config { return p.cfg }

// Read implements Line.
func (p *Port) Read(b []byte) (int, error) {
	n, err := p.file.Read(b)
	if n > 0 {
		if p.cfg.Tap != nil {
			p.cfg.Tap(time.Now(), false, b[:n])
		}
		return n, nil
	}
	if len(b) == 0 && err == nil {
		return 0, nil
	}
	return 0, p.fault("read", err)
}

// Write implements Line.
func (p *Port) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if p.cfg.Direction == DirectionRTS {
		if err := p.talk(true); err != nil {
			return 0, err
		}
		defer func() { _ = p.talk(false) }() // for the ways out with an error; the good one has checked it already
	}
	if p.cfg.Tap != nil {
		p.cfg.Tap(time.Now(), true, b)
	}
	n, err := p.file.Write(b)
	if err != nil {
		return n, p.fault("write", err)
	}
	if err := p.drain(len(b)); err != nil {
		return n, err
	}
	if p.cfg.Direction == DirectionRTS {
		if err := p.talk(false); err != nil {
			return n, err
		}
	}
	if p.cfg.Echo {
		return n, p.swallowEcho(b)
	}
	return n, nil
}

// SetDeadline implements Line.
func (p *Port) SetDeadline(t time.Time) error {
	p.until.set(t)
	if err := p.file.SetDeadline(t); err != nil {
		return p.fault("set a deadline for", err)
	}
	return nil
}

// Discard implements Line.
func (p *Port) Discard() (int, error) {
	waiting := 0
	var fault error
	err := p.raw.Control(func(fd uintptr) {
		waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) // a number for the statistics only
		fault = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCIFLUSH)
	})
	if err = errors.Join(err, fault); err != nil {
		return 0, p.fault("clear", err)
	}
	return waiting, nil
}

// Close implements Line.
func (p *Port) Close() error {
	p.once.Do(func() {
		close(p.closed)
		if p.raw != nil {
			// Closing a port with unsent bytes waits for them, up to half a minute.
			_ = p.raw.Control(func(fd uintptr) { _ = unix.IoctlSetInt(int(fd), unix.TCFLSH, unix.TCOFLUSH) })
		}
		if p.ctl != nil {
			_ = p.ctl.Close() // gives up TIOCEXCL; there is nothing else to lose
		}
		_ = p.file.Close() // nothing is buffered in it
	})
	return nil
}

// fault words an error of the system and tells a line that is gone from one that is late.
func (p *Port) fault(what string, err error) error {
	select {
	case <-p.closed:
		return fmt.Errorf("serial port %s is closed: %w", p.cfg.Path, ErrGone)
	default:
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, unix.EIO), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, os.ErrClosed):
		return fmt.Errorf("serial port %s is unplugged or was reset: %w", p.cfg.Path, ErrGone)
	}
	var no unix.Errno
	if errors.As(err, &no) {
		err = no
	}
	return fmt.Errorf("cannot %s serial port %s: %w: %w", what, p.cfg.Path, ErrGone, err)
}
