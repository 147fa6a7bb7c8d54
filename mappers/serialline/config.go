package serialline

import (
	"fmt"
	"time"
)

// Parity is the parity bit of a character.
type Parity uint8

// The parities.
const (
	ParityNone Parity = iota
	ParityEven
	ParityOdd
	ParityMark
	ParitySpace
)

func (p Parity) String() string { return [...]string{"none", "even", "odd", "mark", "space"}[p] }

// Direction is how the transmitter of a two-wire line (RS-485) is switched on for sending.
type Direction uint8

// The ways of switching.
const (
	DirectionAuto   Direction = iota // RS-232, RS-422, or an adapter that switches by itself
	DirectionKernel                  // by the kernel's driver of the port (TIOCSRS485)
	DirectionRTS                     // by RTS, from here
)

// Config is one serial line. The zero values of all but Path are 9600 baud 8N1, no flow control, switching by itself.
type Config struct {
	// Path is the device file; a symbolic link of udev (/dev/serial/by-id/…) finds the same adapter again wherever it is plugged.
	Path     string
	Baud     int
	DataBits int
	Parity   Parity
	StopBits int
	// HardwareFlow is RTS/CTS flow control.
	HardwareFlow bool

	Direction Direction
	// SendLow means that RTS is low while sending.
	SendLow bool
	// RTSBefore and RTSAfter are how long RTS stands before the first and after the last bit.
	RTSBefore, RTSAfter time.Duration

	// Echo tells that everything we send comes back, as on two-wire adapters whose receiver stays on.
	Echo bool

	// Tap is told of every byte, in both directions; nil for none.
	Tap Tap
}

// Tap is told of bytes as they are sent and as they are received, in their order on the line. It must not keep data, nor block.
type Tap func(at time.Time, sent bool, data []byte)

// withDefaults fills in what is missing.
func (c Config) withDefaults() Config {
	if c.Baud == 0 {
		c.Baud = 9600
	}
	if c.DataBits == 0 {
		c.DataBits = 8
	}
	if c.StopBits == 0 {
		c.StopBits = 1
	}
	return c
}

// String is the usual short form, e.g. "/dev/ttyS1 (19200 8E1)".
func (c Config) String() string {
	c = c.withDefaults()
	return fmt.Sprintf("%s (%d %d%c%d)", c.Path, c.Baud, c.DataBits, "NEOMS"[c.Parity], c.StopBits)
}

// SameLine tells whether two devices may share one port: all that concerns the wire is equal.
func (c Config) SameLine(o Config) bool {
	c, o = c.withDefaults(), o.withDefaults()
	c.Tap, o.Tap = nil, nil
	return c.Path == o.Path && c.Baud == o.Baud && c.DataBits == o.DataBits && c.Parity == o.Parity && c.StopBits == o.StopBits &&
		c.HardwareFlow == o.HardwareFlow && c.Direction == o.Direction && c.SendLow == o.SendLow && c.RTSBefore == o.RTSBefore &&
		c.RTSAfter == o.RTSAfter && c.Echo == o.Echo
}
