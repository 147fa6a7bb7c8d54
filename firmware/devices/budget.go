package devices

import (
	"sync"
	"time"
)

// budget bounds how many reported values reach the store in a second: flash is a wear part, and a plant of 10,000 values that change
// all the time would wear it out. Values that wait are newer when their turn comes.
type budget struct {
	mu   sync.Mutex
	left float64
	at   time.Time
}

// take returns how many records may be written now, at most want.
func (b *budget) take(want int, now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since := now.Sub(b.at); since > 0 || b.at.IsZero() {
		b.left = min(flushPerSecond, b.left+since.Seconds()*flushPerSecond)
		b.at = now
	}
	n := min(want, int(b.left))
	b.left -= float64(n)
	return n
}
