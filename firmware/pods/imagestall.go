package pods

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// silence is how many times pulls.stall may pass without any progress before a pull is ended of which nobody knows what it waits for: it may be a
// registry that does not answer, but also a large layer that is being unpacked onto slow flash.
const silence = 15

// partSeen is a part of an image, and when more of it came last.
type partSeen struct {
	PullPart
	moved time.Time // zero: it was there before the pull began, and nothing came
}

// pullWatch looks after one pull: it says how far it is, and ends it if nothing comes any more. containerd before 1.7 would wait for a registry
// that hangs until the connection breaks, which may be never. It belongs to one goroutine.
//
// With several pulls at a time, which part is whose is asked only when it matters. One that gets nothing does not keep others waiting in any case: it
// goes on beyond the limit of parallel pulls.
type pullWatch struct {
	p     *pulls
	one   *pull
	free  func() // lets another pull begin
	parts map[string]partSeen
	begun time.Time
	moved time.Time // when anything came last, of any pull; begun: nothing has
}

func (w *pullWatch) run(ctx context.Context) {
	w.begun = time.Now()
	w.moved = w.begun
	tick := time.NewTicker(min(progressAsk, w.p.stall))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !w.look(ctx) {
			continue // the runtime is away, or cannot tell
		}
		w.tell()
		idle := time.Since(w.moved)
		if idle >= w.p.stall {
			w.free()
		}
		if part := w.stuck(ctx); part != "" {
			seen := w.parts[part]
			w.end(fmt.Errorf("nothing has come from the registry for %s (%s of %s of %s are there): the pull is ended, and tried again; check the line to the registry",
				w.p.stall, mebibytes(seen.Have), mebibytes(seen.Total), part))
			return
		}
		if idle >= silence*w.p.stall {
			w.end(fmt.Errorf("nothing has come from the registry for %s: the pull is ended, and tried again; check the line to the registry", silence*w.p.stall))
			return
		}
	}
}

func (w *pullWatch) end(why error) {
	w.p.log.Warn("a pull gets nothing any more", "image", w.one.name, "error", why)
	w.one.cancel(why)
}

// look asks how far the pull is. It returns false if nobody can tell.
func (w *pullWatch) look(ctx context.Context) bool {
	now, err := w.p.progress(ctx)
	if err != nil {
		return false
	}
	for name, seen := range w.parts {
		if _, there := now[name]; !there { // that one is done
			if seen.Total > 0 && seen.Have < seen.Total {
				w.parts[name] = partSeen{PullPart{seen.Total, seen.Total}, time.Now()}
				w.moved = time.Now()
			}
		}
	}
	for name, part := range now {
		seen, known := w.parts[name]
		switch {
		case known && seen.Have == part.Have:
			seen.Total = part.Total
			w.parts[name] = seen
		case !known && w.moved.IsZero():
			w.parts[name] = partSeen{PullPart: part}
		default:
			w.moved = time.Now()
			w.parts[name] = partSeen{part, w.moved}
		}
	}
	return true
}

// tell says how far it is. With several pulls at a time nobody knows which part is whose: the figures are of all.
func (w *pullWatch) tell() {
	var have, total int64
	for _, seen := range w.parts {
		if !seen.moved.IsZero() {
			have, total = have+seen.Have, total+max(seen.Total, seen.Have)
		}
	}
	if total > 0 {
		w.one.say(fmt.Sprintf("%s of %s so far", mebibytes(have), mebibytes(total)))
	}
}

// stuck returns a part of this pull of which nothing comes any more.
func (w *pullWatch) stuck(ctx context.Context) string {
	now := time.Now()
	for name, seen := range w.parts {
		since := seen.moved
		if since.IsZero() && w.moved.Equal(w.begun) {
			since = w.begun // what an earlier pull has left, and this one seems to begin with
		}
		if !since.IsZero() && seen.Have < seen.Total && now.Sub(since) >= w.p.stall && w.mine(ctx, name, seen) {
			return name
		}
	}
	return ""
}

// mine reports whether a part belongs to this pull: to an image of the same repository, or to the only pull that there is.
func (w *pullWatch) mine(ctx context.Context, part string, seen partSeen) bool {
	if w.p.owner != nil {
		if repos, err := w.p.owner(ctx, part); err == nil && len(repos) > 0 {
			_, repo := fullName(w.one.name)
			return slices.Contains(repos, repo)
		}
	}
	return !seen.moved.IsZero() && w.p.alone(w.one)
}

// alone reports whether no other pull is under way.
func (p *pulls) alone(one *pull) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, other := range p.now {
		if other != one && other.active {
			return false
		}
	}
	return true
}
