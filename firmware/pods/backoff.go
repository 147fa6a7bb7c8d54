package pods

import "time"

// The kubelet's figures: 10 s doubling to 5 min, forgotten after 10 min without trouble. The second is Options.MaxRestartDelay where
// containers are restarted.
const (
	backoffFirst  = 10 * time.Second
	backoffMax    = 5 * time.Minute
	backoffForget = 2 * backoffMax
)

// backoff is one doubling delay. The zero value has none. Not safe for concurrent use.
type backoff struct {
	delay time.Duration // that follows the last failure
	since time.Time     // the last failure
}

// fail records a failure at now and doubles the delay that follows it.
func (b *backoff) fail(now time.Time, first, most time.Duration) time.Duration {
	b.delay = min(max(b.delay*2, first), most)
	b.since = now
	return b.delay
}

// left returns how long to wait still.
func (b *backoff) left(now time.Time) time.Duration {
	return max(0, b.since.Add(b.delay).Sub(now))
}

// restartBackoff delays restarts of one container: the first restart is immediate, the following wait 10 s, 20 s, … 5 min after
// the container's end. A run of 10 minutes forgets it.
type restartBackoff struct {
	most  time.Duration // the longest delay; a run of twice that forgets it
	delay time.Duration // that has to pass between the end of the last run and the next start
	known bool
}

func (r *restartBackoff) forget() time.Duration { return 2 * r.most }

// wait returns how long a container that ended must wait still, at now. restarts seeds the delay after a restart of the
// agent, which otherwise would forget a crash loop.
func (r *restartBackoff) wait(c *containerState, now time.Time) time.Duration {
	if !r.known {
		r.known = true
		for range min(c.restarts, 10) {
			r.next()
		}
	}
	if !c.began.IsZero() && c.ended.Sub(c.began) >= r.forget() {
		r.delay = 0
	}
	if c.ended.IsZero() {
		return 0 // the runtime does not say
	}
	return max(0, c.ended.Add(r.delay).Sub(now))
}

// next is called when the container is started again.
func (r *restartBackoff) next() {
	r.known = true
	r.delay = min(max(r.delay*2, backoffFirst), r.most)
}
