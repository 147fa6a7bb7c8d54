package control

import "sync"

// feed hands lines from whoever makes them to the one that writes them to a client. push never blocks: what does not fit is
// counted. It is safe for concurrent use.
type feed[T any] struct {
	mu     sync.Mutex
	lines  []T
	missed int
	wake   chan struct{}
}

func newFeed[T any]() *feed[T] { return &feed[T]{wake: make(chan struct{}, 1)} }

// push appends a line. The oldest one goes if there are too many: the newest value of a device is what counts.
func (f *feed[T]) push(line T) {
	f.mu.Lock()
	if len(f.lines) >= maxFeed {
		drop := maxFeed / 4 // at once, so that a flood does not move the rest for each line
		f.lines = f.lines[:copy(f.lines, f.lines[drop:])]
		f.missed += drop
	}
	f.lines = append(f.lines, line)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what has been pushed, and how many lines were lost before it.
func (f *feed[T]) take() (lines []T, missed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, missed = f.lines, f.missed
	f.lines, f.missed = nil, 0
	return lines, missed
}
