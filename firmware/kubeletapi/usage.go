package kubeletapi

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	usageLife  = time.Minute // the kubelet's volumeStatsAggPeriod
	bulkyLife  = 10 * time.Minute
	maxEntries = 100_000 // of a folder, that are counted
)

var errBulky = errors.New("too many files to count")

// usages remembers what folders take of the disk: counting walks through them, and statistics are asked for every few seconds.
type usages struct {
	walking chan struct{} // one at a time; whoever finds it taken shows what was known before
	mu      sync.Mutex
	known   map[string]usage
}

type usage struct {
	bytes, inodes uint64
	until         time.Time // when it is counted again
	counted       bool      // false: it holds too many files
}

// newRound begins an answer. Its answers are counted anew only if no other round is at work.
func (u *usages) newRound() *usageRound {
	r := u.look()
	select {
	case u.walking <- struct{}{}:
		r.may = true
	default:
	}
	return r
}

// look begins an answer that counts nothing anew.
func (u *usages) look() *usageRound { return &usageRound{u: u, seen: map[string]bool{}} }

// usageRound is one look at all folders.
type usageRound struct {
	u    *usages
	may  bool
	seen map[string]bool
}

// of returns what a folder takes; ok is false if that is not known.
func (r *usageRound) of(ctx context.Context, dir string) (bytes, inodes uint64, ok bool) {
	r.seen[dir] = true
	now := time.Now()
	r.u.mu.Lock()
	was, known := r.u.known[dir]
	r.u.mu.Unlock()
	if r.may && (!known || !now.Before(was.until)) {
		bytes, inodes, err := treeUsage(ctx, dir, maxEntries)
		switch {
		case err == nil:
			was = usage{bytes: bytes, inodes: inodes, until: now.Add(usageLife), counted: true}
		case errors.Is(err, errBulky):
			was = usage{until: now.Add(bulkyLife)}
		default: // no time left: what was known before is shown
			return was.bytes, was.inodes, was.counted
		}
		r.u.mu.Lock()
		if r.u.known == nil {
			r.u.known = map[string]usage{}
		}
		r.u.known[dir] = was
		r.u.mu.Unlock()
	}
	return was.bytes, was.inodes, was.counted
}

// end forgets folders that were not asked for.
func (r *usageRound) end() {
	if !r.may {
		return
	}
	r.u.mu.Lock()
	for dir := range r.u.known {
		if !r.seen[dir] {
			delete(r.u.known, dir)
		}
	}
	r.u.mu.Unlock()
	<-r.u.walking
}
