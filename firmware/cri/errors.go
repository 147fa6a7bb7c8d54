package cri

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry/skerry/firmware/grpcwire"
)

// Code is a gRPC status code. It is an error so that a failed call can be tested with errors.Is(err, cri.ErrNotFound).
type Code = grpcwire.Code

// The codes.
const (
	ErrCanceled           = grpcwire.Canceled
	ErrUnknown            = grpcwire.Unknown
	ErrInvalidArgument    = grpcwire.InvalidArgument
	ErrDeadlineExceeded   = grpcwire.DeadlineExceeded
	ErrNotFound           = grpcwire.NotFound
	ErrAlreadyExists      = grpcwire.AlreadyExists
	ErrPermissionDenied   = grpcwire.PermissionDenied
	ErrResourceExhausted  = grpcwire.ResourceExhausted
	ErrFailedPrecondition = grpcwire.FailedPrecondition
	ErrAborted            = grpcwire.Aborted
	ErrOutOfRange         = grpcwire.OutOfRange
	ErrUnimplemented      = grpcwire.Unimplemented
	ErrInternal           = grpcwire.Internal
	ErrUnavailable        = grpcwire.Unavailable
	ErrDataLoss           = grpcwire.DataLoss
	ErrUnauthenticated    = grpcwire.Unauthenticated
)

// Error is a call that failed. errors.Is matches its Code and, if the client's side of the call failed,
// the cause (context.Canceled, context.DeadlineExceeded, syscall.ECONNREFUSED, …).
type Error struct {
	Method  string // as in api.proto: "RunPodSandbox"
	Socket  string // path of the runtime's socket
	Code    Code
	Message string // the runtime's own words; empty if the call did not reach it
	Err     error  // the cause on the client's side; nil if the runtime answered
}

// Error says what failed and, if the runtime could not be reached, what to do.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("container runtime: %s: %s (%s)", e.Method, e.Message, e.Code)
	case e.Code == ErrUnavailable:
		return fmt.Sprintf("container runtime: %s: no answer at %s: %v (check that the runtime is running, "+
			"for example `systemctl status containerd`, and that this is its CRI socket)", e.Method, e.Socket, e.Err)
	case e.Code == ErrDeadlineExceeded:
		return fmt.Sprintf("container runtime: %s: no answer from %s in time: %v", e.Method, e.Socket, e.Err)
	default:
		return fmt.Sprintf("container runtime: %s: %v", e.Method, e.Err)
	}
}

// Is reports whether target is e's code, or the context error that the code stands for.
func (e *Error) Is(target error) bool {
	if code, ok := target.(Code); ok {
		return code == e.Code
	}
	return target == context.DeadlineExceeded && e.Code == ErrDeadlineExceeded ||
		target == context.Canceled && e.Code == ErrCanceled
}

// Unwrap returns the cause on the client's side.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the gRPC code of err: 0 for nil, ErrUnknown for an error that is not from this package.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ErrUnknown
}
