package serial

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Back-off of a device that does not answer: each probe costs its neighbours on the line a time-out.
const (
	healthBase  = time.Second
	healthLimit = 30 * time.Second
)

// unreachableError says that a device did not answer. Its text does not change while that lasts.
type unreachableError struct{ what string }

func (e *unreachableError) Error() string { return e.what }

// Is makes errors.Is(err, device.ErrUnreachable) true.
func (e *unreachableError) Is(target error) bool { return target == device.ErrUnreachable }

func unreachable(format string, args ...any) error {
	return &unreachableError{what: fmt.Sprintf(format, args...)}
}

// health is the back-off of a device. It belongs to the port's owner.
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

func (h *health) failed(now time.Time, why error) {
	d := min(healthBase<<min(h.failures, 10), healthLimit)
	h.failures++
	// Jitter of a quarter either way: what failed together must not come back together.
	h.retryAt, h.why = now.Add(d*3/4+rand.N(d/2)), why
}

func (h *health) ok() { *h = health{} }
