package pods

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// silence is how many times pulls.stall may pass without any progress before a pull is ended of which nobody knows what it waits for: it may be a
// registry that does not answer, but also a large layer that is being unpacked onto slow flash.
const silence = 3

// partSeen is a part of an image, and when more of it came last.
type partSeen struct {
	PullPart
	moved time.Time // zero: it was there before the pull began, and nothing came
	whose whose
}

// whose says whether a part belongs to the pull.
type whose int

const (
	unknown whose = iota
	own
	others
)

// pullWatch looks after one pull: it says how far it is, and ends it if nothing comes any more. containerd before 1.7 would wait for a registry
// that hangs until the connection breaks, which may be never. containerd writes what it fetches a MiB at a time: on a slow line nothing moves for long.
// It belongs to one goroutine.
//
// With several pulls at a time it is asked whose a part is; one of which nobody knows counts for all. A pull that gets nothing does not keep others
// waiting: it goes on beyond the limit of parallel pulls.
type pullWatch struct {
	p     *pulls
	one   *pull
	free  func() // lets another pull begin
	parts map[string]partSeen
	begun time.Time
	moved time.Time // when anything came last; begun: nothing has
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
		if _, there := now[name]; !there && seen.Have < seen.Total { // that one is done
			seen.Have = seen.Total
			w.came(ctx, name, seen)
		}
	}
	for name, part := range now {
		seen, known := w.parts[name]
		same := known && seen.Have == part.Have
		seen.PullPart = part
		if same || !known && w.moved.IsZero() {
			w.parts[name] = seen
		} else {
			w.came(ctx, name, seen)
		}
	}
	return true
}

// came notes that more of a part is there.
func (w *pullWatch) came(ctx context.Context, name string, seen partSeen) {
	if seen.moved = time.Now(); seen.whose == unknown && !w.p.alone(w.one) {
		seen.whose = w.ask(ctx, name)
	}
	if seen.whose != others {
		w.moved = seen.moved
	}
	w.parts[name] = seen
}

// tell says how far it is. What nobody knows the pull of is counted in.
func (w *pullWatch) tell() {
	var have, total int64
	for _, seen := range w.parts {
		if !seen.moved.IsZero() && seen.whose != others {
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
	if seen.whose == unknown {
		seen.whose = w.ask(ctx, part)
	}
	return seen.whose == own || seen.whose == unknown && !seen.moved.IsZero() && w.p.alone(w.one)
}

// ask asks whose a part is.
func (w *pullWatch) ask(ctx context.Context, part string) whose {
	if w.p.owner == nil {
		return unknown
	}
	repos, err := w.p.owner(ctx, part)
	if err != nil || len(repos) == 0 {
		return unknown
	}
	_, repo := fullName(w.one.name)
	host, path, _ := strings.Cut(repo, "/")
	host, _, _ = strings.Cut(host, ":")
	if slices.Contains(repos, host+"/"+path) {
		return own
	}
	return others
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
