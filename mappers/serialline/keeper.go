package serialline

import (
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Back-off of a port that cannot be opened: an adapter that is plugged in again is soon there, and trying costs little.
const (
	keepBase  = 250 * time.Millisecond
	keepLimit = 5 * time.Second
)

// Keeper opens a line when it is needed, and again after it went away. It belongs to the goroutine that owns the line.
type Keeper struct {
	open   func() (Line, error)
	line   Line
	health device.Backoff
	opened int
}

// NewKeeper keeps the line that open opens.
func NewKeeper(open func() (Line, error)) *Keeper { return &Keeper{open: open} }

// Line returns the open line. A line that cannot be opened is not tried again before its back-off has passed: until then, the
// error is the last one.
func (k *Keeper) Line() (Line, error) {
	if k.line != nil {
		return k.line, nil
	}
	now := time.Now()
	if err := k.health.Blocked(now); err != nil {
		return nil, err
	}
	line, err := k.open()
	if err != nil {
		k.health.Failed(now, err, keepBase, keepLimit)
		return nil, err
	}
	k.health.OK()
	k.line = line
	k.opened++
	return line, nil
}

// RetryAt is when Line tries again; zero if it would not wait.
func (k *Keeper) RetryAt() time.Time { return k.health.RetryAt() }

// Opened counts how often the line was opened: a change of it means that what was agreed with the device is lost.
func (k *Keeper) Opened() int { return k.opened }

// Drop closes the line; the next call of Line opens it again.
func (k *Keeper) Drop() {
	if k.line != nil {
		_ = k.line.Close() // what is left of it does not matter
		k.line = nil
	}
}
