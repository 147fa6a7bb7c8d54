package cri

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Code is a gRPC status code (https://grpc.io/docs/guides/status-codes/). It is an error so that a failed
// call can be tested with errors.Is(err, cri.ErrNotFound).
type Code uint32

const (
	ErrCanceled           Code = 1
	ErrUnknown            Code = 2
	ErrInvalidArgument    Code = 3
	ErrDeadlineExceeded   Code = 4
	ErrNotFound           Code = 5
	ErrAlreadyExists      Code = 6
	ErrPermissionDenied   Code = 7
	ErrResourceExhausted  Code = 8
	ErrFailedPrecondition Code = 9
	ErrAborted            Code = 10
	ErrOutOfRange         Code = 11
	ErrUnimplemented      Code = 12
	ErrInternal           Code = 13
	ErrUnavailable        Code = 14
	ErrDataLoss           Code = 15
	ErrUnauthenticated    Code = 16
)

// Error returns the code's name.
func (c Code) Error() string {
	names := [...]string{"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
		"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
		"Internal", "Unavailable", "DataLoss", "Unauthenticated"}
	if int64(c) < int64(len(names)) {
		return names[c]
	}
	return "Code(" + strconv.FormatUint(uint64(c), 10) + ")"
}

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
