package modbus

import (
	"errors"
	"time"
)

// Back-offs. The first retry of a connection is quick, because a device that restarted is soon back; a unit's is slow,
// because each probe of a dead one costs its neighbours a time-out.
const (
	connectBase  = 250 * time.Millisecond
	connectLimit = 10 * time.Second
	unitBase     = 2 * time.Second
	unitLimit    = 30 * time.Second
)

// muteError says that a request was sent to a unit that did not answer it. It wraps device.ErrUnreachable.
type muteError struct{ error }

func (e *muteError) Unwrap() error { return e.error }

func isMute(err error) bool {
	var e *muteError
	return errors.As(err, &e)
}
