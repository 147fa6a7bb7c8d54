package serialline

import "time"

// CharBits is how many bit times a character takes: start, data, parity, stop.
func (c Config) CharBits() int {
	c = c.withDefaults()
	n := 1 + c.DataBits + c.StopBits
	if c.Parity != ParityNone {
		n++
	}
	return n
}

// CharTime is how long n characters take on the line, rounded up.
func (c Config) CharTime(n int) time.Duration {
	c = c.withDefaults()
	bits := int64(n) * int64(c.CharBits())
	return time.Duration((bits*int64(time.Second) + int64(c.Baud) - 1) / int64(c.Baud))
}

// Above 19,200 baud the standard fixes the intervals, because timers cannot follow (Modbus over Serial Line V1.02, section 2.5.1.1).
const (
	fixedAbove    = 19200
	fixedInterval = 750 * time.Microsecond
	fixedSilence  = 1750 * time.Microsecond
)

// CharGap is Modbus's t1.5: within a frame, characters are at most this far apart.
func (c Config) CharGap() time.Duration {
	if c.withDefaults().Baud > fixedAbove {
		return fixedInterval
	}
	return (c.CharTime(3) + 1) / 2
}

// FrameGap is Modbus's t3.5: the silence between two frames.
func (c Config) FrameGap() time.Duration {
	if c.withDefaults().Baud > fixedAbove {
		return fixedSilence
	}
	return (c.CharTime(7) + 1) / 2
}
