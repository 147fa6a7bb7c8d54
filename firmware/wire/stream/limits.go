package stream

import (
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Pipe is what this end announces: so many bytes of all streams may be on their way to it.
const Pipe = wire.StreamPipe

// Limits bounds what a peer can make this side hold or do. Zero fields take the defaults.
type Limits struct {
	Streams int // that each side may have open at a time; 64
	Window  int // bytes that arrive on one stream before somebody reads them; 64 KiB
	// OpensPerSecond is how many streams the peer may open, sustained, with a burst of ten times that; the others are refused.
	// Negative: any number.
	OpensPerSecond int
	// BytesPerSecond of data are taken from the peer: it has to wait, because its window is given back at this rate. 0: any.
	BytesPerSecond int
	// FramesPerSecond are taken that carry neither data nor a large piece of a window, sustained, with a burst of five times
	// that. Exceeding it is a Violation. 0: any.
	FramesPerSecond int
	// Linger is how long a closed stream may hold bytes that the peer does not take; 15 s.
	Linger time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Streams <= 0 {
		l.Streams = 64
	}
	if l.Window <= 0 {
		l.Window = 64 << 10
	}
	l.Window = min(max(l.Window, wire.MinStreamWindow), wire.MaxStreamWindow)
	if l.OpensPerSecond == 0 {
		l.OpensPerSecond = 10
	}
	if l.Linger <= 0 {
		l.Linger = 15 * time.Second
	}
	return l
}

const (
	burstOpens  = 10 // seconds of the sustained rate
	burstFrames = 5
	burstBytes  = 1

	sendBuffer = 32 << 10 // bytes that one stream takes from its writer ahead of the network
	worthwhile = 1 << 10  // bytes below which a piece of a larger chunk is not sent: the window will have grown soon
	freeReturn = 8 << 10  // a window frame that gives back so much cannot come more often than data goes
	maxControl = 1024     // frames that answer the peer and wait to be sent: one that takes none of them is cut off
)

// budget is a token bucket that may go into debt. The zero value is full.
type budget struct {
	spent float64 // and not yet regained
	at    time.Time
}

// take takes n, into debt if need be, and returns after how long the bucket, which holds so many seconds' worth, is out of it. A
// clock that goes back gives nothing.
func (b *budget) take(n, perSecond int, seconds float64, now time.Time) time.Duration {
	rate := float64(perSecond)
	if !b.at.IsZero() {
		b.spent = max(b.spent-rate*max(now.Sub(b.at).Seconds(), 0), 0)
	}
	b.at = now
	b.spent += float64(n)
	return time.Duration(max(b.spent-rate*seconds, 0) / rate * float64(time.Second))
}
