package grpcwire

import (
	"errors"
	"fmt"
	"strconv"
)

// Code is a gRPC status code (https://grpc.io/docs/guides/status-codes/). It is an error so that a failed call can be tested with errors.Is.
type Code uint32

// The codes; 0 is success.
const (
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
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

// StatusError is a status that a service answers with.
type StatusError struct {
	Code    Code
	Message string
}

// Errorf returns a StatusError.
func Errorf(code Code, format string, args ...any) error {
	return &StatusError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *StatusError) Error() string { return e.Message + " (" + e.Code.Error() + ")" }

// Is reports whether target is e's code.
func (e *StatusError) Is(target error) bool {
	code, ok := target.(Code) //nolint:errorlint // Is is asked for one error of the chain
	return ok && code == e.Code
}

// Answered tells whether err is the peer's own answer and no failure to reach it.
func Answered(err error) bool {
	_, ok := errors.AsType[*StatusError](err)
	return ok
}
