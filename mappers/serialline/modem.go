package serialline

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rs485 is struct serial_rs485 of linux/serial.h: eight 32-bit words on every architecture.
type rs485 struct {
	flags, delayBefore, delayAfter uint32 // delays in milliseconds
	padding                        [5]uint32
}

const (
	rs485Enabled   = 1 << 0
	rs485OnSend    = 1 << 1
	rs485AfterSend = 1 << 2
	rs485Receive   = 1 << 4 // the receiver stays on while sending
)

func (c Config) rs485() rs485 {
	r := rs485{flags: rs485Enabled | rs485OnSend, delayBefore: millis(c.RTSBefore), delayAfter: millis(c.RTSAfter)}
	if c.SendLow {
		r.flags = rs485Enabled | rs485AfterSend
	}
	if c.Echo {
		r.flags |= rs485Receive
	}
	return r
}

// millis rounds up: a transmitter that is switched off too early cuts the last character.
func millis(d time.Duration) uint32 { return uint32((d + time.Millisecond - 1) / time.Millisecond) }

// setDirection prepares the line for receiving.
func (p *Port) setDirection() error {
	switch p.cfg.Direction {
	case DirectionKernel:
		arg := p.cfg.rs485()
		var no unix.Errno
		err := p.raw.Control(func(fd uintptr) {
			_, _, no = unix.Syscall(unix.SYS_IOCTL, fd, unix.TIOCSRS485, uintptr(unsafe.Pointer(&arg))) //nolint:gosec // the ioctl's own structure
		})
		runtime.KeepAlive(&arg)
		if err == nil && no != 0 {
			err = no
		}
		if err != nil {
			return &OpenError{Path: p.cfg.Path, Problem: "its driver cannot switch an RS-485 transmitter (TIOCSRS485); set rs485 to rts, or to auto for an adapter that switches by itself", Err: err}
		}
	case DirectionRTS:
		if err := p.ctl.SetRTS(p.cfg.SendLow); err != nil {
			return &OpenError{Path: p.cfg.Path, Problem: "it has no RTS line to switch an RS-485 transmitter with; set rs485 to kernel or auto", Err: plain(err)}
		}
	case DirectionAuto:
	}
	return nil
}

// talk switches the transmitter by RTS, with the delays around it.
func (p *Port) talk(on bool) error {
	if !on {
		p.pause(p.cfg.RTSAfter)
	}
	if err := p.ctl.SetRTS(on != p.cfg.SendLow); err != nil {
		return p.fault("switch RTS of", err)
	}
	if on {
		p.pause(p.cfg.RTSBefore)
	}
	return nil
}

// pause sleeps; Close interrupts.
func (p *Port) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.closed:
	}
}

// exact is how close to an instant Go's timers are left alone: in an idle process they are rounded to a millisecond, which would cost a fast
// line a tenth of its time.
const exact = 3 * time.Millisecond

// Pause waits until t, as exactly as the kernel does. Close interrupts it but for the last milliseconds.
func (p *Port) Pause(t time.Time) {
	p.pause(time.Until(t) - exact)
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := unix.NsecToTimespec(int64(min(d, exact)))
		if err := unix.Nanosleep(&ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			p.pause(d)
		}
		select {
		case <-p.closed:
			return
		default:
		}
	}
}

// setFlow switches RTS/CTS flow control on. The library has switched it off.
func (p *Port) setFlow() error {
	if !p.cfg.HardwareFlow {
		return nil
	}
	var fault error
	kept := false
	err := p.raw.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err == nil {
			t.Cflag |= unix.CRTSCTS
			err = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
		}
		if err == nil {
			t, err = unix.IoctlGetTermios(int(fd), unix.TCGETS)
		}
		fault, kept = err, err == nil && t.Cflag&unix.CRTSCTS != 0
	})
	if err = errors.Join(err, fault); err != nil || !kept {
		return &OpenError{Path: p.cfg.Path, Problem: "it has no hardware flow control; set flowControl to none", Err: err}
	}
	return nil
}

// checkBaud compares what the driver made of the baud rate. Receivers stand about 3 % in all, so more than that cannot work. What a
// system does not tell (TCGETS2) is taken on trust.
func (p *Port) checkBaud() error {
	real := p.cfg.Baud
	err := p.raw.Control(func(fd uintptr) {
		if t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS2); err == nil {
			real = int(t.Ospeed)
		}
	})
	if err != nil {
		return p.fault("set up", err)
	}
	if off := real - p.cfg.Baud; off > p.cfg.Baud*3/100 || -off > p.cfg.Baud*3/100 {
		return &OpenError{Path: p.cfg.Path, Problem: fmt.Sprintf("it cannot do %d baud, the nearest that it offers is %d", p.cfg.Baud, real)}
	}
	return nil
}

// drain waits until the last bit of n bytes has left, or until the deadline.
func (p *Port) drain(n int) error {
	for {
		waiting := 0
		var fault error
		err := p.raw.Control(func(fd uintptr) { waiting, fault = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		if err = errors.Join(err, fault); err != nil {
			return p.fault("drain", err)
		}
		if waiting == 0 {
			break
		}
		if p.until.passed(time.Now()) {
			return os.ErrDeadlineExceeded
		}
		p.pause(min(max(p.cfg.CharTime(waiting), 100*time.Microsecond), 20*time.Millisecond))
	}
	if p.cfg.HardwareFlow {
		// tcdrain would wait for a peer that keeps CTS low, and cannot be interrupted. What is left is in the hardware's buffer.
		p.pause(p.cfg.CharTime(min(n, 16)))
		return nil
	}
	var fault error
	err := p.raw.Control(func(fd uintptr) {
		for {
			if fault = unix.IoctlSetInt(int(fd), unix.TCSBRK, 1); !errors.Is(fault, unix.EINTR) {
				return
			}
		}
	})
	if err = errors.Join(err, fault); err != nil {
		return p.fault("drain", err)
	}
	return nil
}

// Break holds the line low for d, which some devices want as a wake-up or as the start of a frame.
func (p *Port) Break(d time.Duration) error {
	if err := p.ctl.Break(d); err != nil {
		return p.fault("send a break on", err)
	}
	return nil
}
