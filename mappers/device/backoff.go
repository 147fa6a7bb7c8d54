package device

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Backoff says when something that failed may be tried again, and keeps the reason until then, so that it does not change while nothing
// else does. The zero Backoff has not failed. It belongs to one goroutine.
type Backoff struct {
	failures int
	retryAt  time.Time
	why      error
}

// Blocked returns why not to try now, nil if trying is allowed.
func (b *Backoff) Blocked(now time.Time) error {
	if b.failures == 0 || !now.Before(b.retryAt) {
		return nil
	}
	return b.why
}

// Failed counts a failure: the wait is base after the first one, and doubles up to limit.
func (b *Backoff) Failed(now time.Time, why error, base, limit time.Duration) {
	d := base
	for range b.failures {
		if d = 2 * d; d >= limit {
			d = limit
			break
		}
	}
	b.failures++
	// Jitter of a quarter either way: what failed together must not come back together.
	b.retryAt, b.why = now.Add(d*3/4+rand.N(d/2)), why
}

// OK forgets the failures.
func (b *Backoff) OK() { *b = Backoff{} }

// Failing tells that the last try failed.
func (b *Backoff) Failing() bool { return b.failures > 0 }

// RetryAt is when trying is allowed again; zero if the last try did not fail.
func (b *Backoff) RetryAt() time.Time { return b.retryAt }

// unreachableError is an error of Unreachable.
type unreachableError struct{ what string }

func (e *unreachableError) Error() string { return e.what }

// Is makes errors.Is(err, ErrUnreachable) true.
func (e *unreachableError) Is(target error) bool { return target == ErrUnreachable }

// Unreachable is an error that wraps ErrUnreachable and says what a technician needs to know, without ErrUnreachable's own text. The text should
// not change while the cause does not.
func Unreachable(format string, args ...any) error {
	return &unreachableError{what: fmt.Sprintf(format, args...)}
}
