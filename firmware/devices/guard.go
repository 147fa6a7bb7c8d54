package devices

import (
	"fmt"
	"runtime/debug"
)

// panicError is a panic of a driver, as an error.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the driver panicked: %v", e.value) }

// guard runs fn and turns its panic into an error: a driver must not take the agent down.
func guard(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return fn()
}
