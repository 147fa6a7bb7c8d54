package modbus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Back-offs. The first retry of a connection is quick, because a device that restarted is soon back; a unit's is slow,
// because each probe of a dead one costs its neighbours a time-out.
const (
	connectBase  = 250 * time.Millisecond
	connectLimit = 10 * time.Second
	unitBase     = 2 * time.Second
	unitLimit    = 30 * time.Second
)

// unreachableError says that a unit or an endpoint did not answer. Its text does not change while that lasts.
type unreachableError struct {
	what string
	mute bool // a request was sent to a unit that did not answer it
}

func (e *unreachableError) Error() string { return e.what }

// Is makes errors.Is(err, device.ErrUnreachable) true.
func (e *unreachableError) Is(target error) bool { return target == device.ErrUnreachable }

func unreachable(format string, args ...any) error {
	return &unreachableError{what: fmt.Sprintf(format, args...)}
}

func isMute(err error) bool {
	var e *unreachableError
	return errors.As(err, &e) && e.mute
}

// health is the back-off of a unit or an endpoint. The zero health is healthy.
type health struct {
	failures int
	retryAt  time.Time
	why      error
}

// blocked returns why not to try now, nil if trying is allowed.
func (h *health) blocked(now time.Time) error {
	if h.failures == 0 || !now.Before(h.retryAt) {
		return nil
	}
	return h.why
}

func (h *health) failed(now time.Time, why error, base, limit time.Duration) {
	d := base
	for range h.failures {
		d = min(2*d, limit)
	}
	h.failures = min(h.failures+1, 30)
	// Jitter of a quarter either way: what failed together must not come back together.
	h.retryAt, h.why = now.Add(d*3/4+rand.N(d/2)), why
}

func (h *health) ok() { *h = health{} }
