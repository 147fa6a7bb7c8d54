package serialline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Line is a serial line, or something like it. It belongs to one goroutine; SetDeadline and Close may be called by others.
type Line interface {
	// Read waits for at least one byte. It fails with os.ErrDeadlineExceeded after the deadline, and with an error that wraps
	// ErrGone once the port is unplugged or closed.
	Read(p []byte) (int, error)
	// Write sends p and returns when the last bit has left, with the direction switched back and our own echo swallowed.
	Write(p []byte) (int, error)
	// SetDeadline ends Read and Write, those under way too, at t; the zero time means never.
	SetDeadline(t time.Time) error
	// Discard throws away what has been received and not been read. It does not wait for anything, and returns how many bytes it
	// threw away, as far as it knows.
	Discard() (int, error)
	// Close interrupts Read and Write. Unsent bytes are thrown away. It may be called more than once.
	Close() error
}

// ErrGone is wrapped by the errors of a line that has to be opened again: unplugged, reset, closed.
var ErrGone = errors.New("the line is gone")

// ErrEcho is wrapped by Write's error on a line with echo, if what came back is not what was sent.
var ErrEcho = errors.New("the echo differs from what was sent")

// ReadContext is Read with the deadline of ctx; its end interrupts. The line's own deadline is overwritten.
func ReadContext(ctx context.Context, l Line, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deadline, _ := ctx.Deadline()
	if err := l.SetDeadline(deadline); err != nil {
		return 0, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = l.SetDeadline(time.Unix(1, 0))
	})
	n, err := l.Read(p)
	if !stop() {
		<-interrupted // or it would interrupt the next Read
	}
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, context.DeadlineExceeded // the line's timer was ahead of the context's
	}
	return n, err
}

// OpenError says why a port cannot be opened.
type OpenError struct {
	Path    string
	Problem string // what is wrong and what to do
	Err     error  // the cause; may be nil
}

func (e *OpenError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("serial port %s: %s: %v", e.Path, e.Problem, e.Err)
	}
	return fmt.Sprintf("serial port %s: %s", e.Path, e.Problem)
}

func (e *OpenError) Unwrap() error { return e.Err }
