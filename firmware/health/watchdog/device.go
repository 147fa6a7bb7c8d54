package watchdog

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

// Bits of a watchdog's options and of its boot status (include/uapi/linux/watchdog.h).
const (
	flagOverheat   = 0x01
	flagFan        = 0x02
	flagExternal1  = 0x04
	flagExternal2  = 0x08
	flagPowerUnder = 0x10
	flagCardReset  = 0x20
	flagPowerOver  = 0x40
	flagSetTimeout = 0x80
	flagMagicClose = 0x100
)

// Info is what a driver says of its watchdog.
type Info struct {
	Identity   string
	Options    uint32
	BootStatus uint32
}

// calls are the system calls of an open watchdog device.
type calls interface {
	io.WriteCloser
	info() (Info, error)
	setTimeout(seconds int) error
	timeout() (seconds int, err error)
	noWayOut() bool // the kernel never stops it again
}

// Device is the hardware's watchdog, opened and therefore armed. Its methods are called by one goroutine.
type Device struct {
	c       calls
	path    string
	info    Info
	timeout time.Duration
	forever bool // it cannot be disarmed
}

// OpenDevice opens and arms the watchdog at path and asks for a timeout, which is a whole number of seconds. The hardware may have another one: see Timeout.
func OpenDevice(path string, timeout time.Duration) (*Device, error) {
	c, err := openCalls(path)
	switch {
	case errors.Is(err, syscall.EBUSY):
		return nil, fmt.Errorf("watchdog %s is held by another process (systemd with RuntimeWatchdogSec=, watchdogd): let that one have it and set watchdog.mode to systemd or off, or stop it: %w", path, err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return nil, fmt.Errorf("watchdog %s is not there: its driver is not loaded, or the board has another one (skerryctl board check): %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("open the watchdog: %w", err)
	}
	return newDevice(c, path, timeout)
}

// newDevice sets up an open device. From here on the gateway is reset unless it is fed, so that no error but one of feeding ends in giving it up.
func newDevice(c calls, path string, timeout time.Duration) (*Device, error) {
	d := &Device{c: c, path: path, timeout: timeout}
	if err := d.Feed(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if info, err := c.info(); err == nil {
		d.info = info
	}
	d.forever = c.noWayOut()
	if timeout > 0 && (d.info.Options&flagSetTimeout != 0 || d.info.Options == 0) {
		_ = c.setTimeout(int((timeout + time.Second - 1) / time.Second)) // what it is, is asked next
	}
	if s, err := c.timeout(); err == nil && s > 0 {
		d.timeout = time.Duration(s) * time.Second
	}
	return d, nil
}

// Feed starts the watchdog's time anew.
func (d *Device) Feed() error {
	if _, err := d.c.Write([]byte{0}); err != nil { // any letter but V; every driver takes it
		return fmt.Errorf("feed watchdog %s: %w", d.path, err)
	}
	return nil
}

// Timeout is how long after the last feeding the gateway is reset, as the hardware has it.
func (d *Device) Timeout() time.Duration { return d.timeout }

// Info is what the driver says of it.
func (d *Device) Info() Info { return d.info }

// Close gives the device back. With disarm nothing is reset any more, unless the kernel has it run for ever (nowayout); without, the gateway is reset when
// the time has passed, unless another process feeds it.
func (d *Device) Close(disarm bool) error {
	if disarm {
		if _, err := d.c.Write([]byte("V")); err != nil {
			return errors.Join(fmt.Errorf("disarm watchdog %s: %w", d.path, err), d.c.Close())
		}
	} else if err := d.Feed(); err != nil { // all of its time for whoever comes next
		return errors.Join(err, d.c.Close())
	}
	return d.c.Close()
}

// Caveats says what people should know of it; "" if there is nothing.
func (d *Device) Caveats() string {
	var out []string
	if d.forever {
		out = append(out, "the kernel does not let it be stopped (nowayout): the gateway is reset when the agent is stopped and not started again in time")
	}
	if d.info.Options != 0 && d.info.Options&flagMagicClose == 0 && !d.forever {
		out = append(out, "its driver stops it whenever its file is closed, so an agent that crashes is not noticed")
	}
	return strings.Join(out, "; ")
}

// String says which watchdog it is.
func (d *Device) String() string {
	if d.info.Identity == "" {
		return d.path
	}
	return fmt.Sprintf("%s (%s)", d.path, d.info.Identity)
}

// BootReason says in words why a watchdog's hardware started the machine; "" if it knows of nothing.
func BootReason(status uint32) string {
	var out []string
	for _, f := range []struct {
		bit  uint32
		text string
	}{
		{flagCardReset, "the watchdog reset the machine"}, {flagOverheat, "the processor was too hot"}, {flagFan, "a fan failed"},
		{flagPowerUnder, "the voltage was too low"}, {flagPowerOver, "the voltage was too high"},
		{flagExternal1, "external relay 1"}, {flagExternal2, "external relay 2"},
	} {
		if status&f.bit != 0 {
			out = append(out, f.text)
		}
	}
	return strings.Join(out, ", ")
}

// ByWatchdog reports whether a boot status says that the watchdog has reset the machine.
func ByWatchdog(status uint32) bool { return status&flagCardReset != 0 }
