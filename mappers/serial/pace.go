package serial

import "time"

// Limits of what a line may cost: a serial line is at most half as fast, but a serial server's connection is not.
const (
	maxBytesPerSecond  = 1 << 20
	maxFramesPerSecond = 2000
)

// pace bounds how fast a line is read; what comes faster waits in the kernel, and is lost there or stops the sender. It belongs to the
// port's owner.
type pace struct {
	from  time.Time
	bytes int
}

func (p *pace) spend(now time.Time, n int) {
	if now.Sub(p.from) >= time.Second {
		p.from, p.bytes = now, 0
	}
	p.bytes += n
}

// wait is how long not to read.
func (p *pace) wait(now time.Time) time.Duration {
	if p.bytes < maxBytesPerSecond {
		return 0
	}
	return max(0, p.from.Add(time.Second).Sub(now))
}
