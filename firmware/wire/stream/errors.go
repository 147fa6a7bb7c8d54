package stream

import (
	"errors"
	"fmt"

	"github.com/skerry/skerry/firmware/wire"
)

// Errors that callers may tell apart.
var (
	// ErrSessionEnded is wrapped by the errors of streams whose session is over.
	ErrSessionEnded = errors.New("the session that carried the stream has ended")
	// ErrUnsupported says that the peer is of a release that has no streams.
	ErrUnsupported = errors.New("the peer is of a release without streams: update it")
	// ErrPeerClosed is what Write fails with after the peer has closed its end.
	ErrPeerClosed = errors.New("the peer has closed the stream")
	// ErrLinger ends a stream that was closed, and whose last bytes the peer did not take in time.
	ErrLinger = errors.New("the peer did not take the last bytes of a closed stream")
)

// RefusedError says that the peer did not open the stream.
type RefusedError struct {
	Service string
	Code    wire.ResetCode
	Reason  string // the peer's words
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("a stream to service %q was refused (%v): %s", e.Service, e.Code, e.Reason)
}

// ResetError says that one side has ended an open stream before its time.
type ResetError struct {
	Local  bool // by this side
	Code   wire.ResetCode
	Reason string
}

// Error implements error.
func (e *ResetError) Error() string {
	by := "the peer"
	if e.Local {
		by = "this side"
	}
	if e.Reason == "" {
		return fmt.Sprintf("the stream was reset by %s (%v)", by, e.Code)
	}
	return fmt.Sprintf("the stream was reset by %s (%v): %s", by, e.Code, e.Reason)
}

// Violation says that the peer broke the rules: the session is to be ended.
type Violation struct {
	Quota bool // it exceeded a quota; otherwise it broke the protocol
	Text  string
}

// Error implements error.
func (e *Violation) Error() string { return e.Text }

func violation(format string, args ...any) error {
	return &Violation{Text: fmt.Sprintf(format, args...)}
}

func exceeded(format string, args ...any) error {
	return &Violation{Quota: true, Text: fmt.Sprintf(format, args...)}
}
