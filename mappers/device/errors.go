package device

import (
	"fmt"
	"strings"
)

// FieldError is one wrong field of a manifest.
type FieldError struct {
	Field   string // path of the field, e.g. "spec.protocol.configData.port"
	Value   any    // what was found; nil if the field is missing
	Problem string // what is wrong with it
	Allowed string // what would be right, in words; may be empty
}

func (e *FieldError) Error() string {
	var b strings.Builder
	b.WriteString(e.Field)
	switch v := e.Value.(type) {
	case nil:
	case string:
		fmt.Fprintf(&b, ": %q", clip(v))
	default:
		fmt.Fprintf(&b, ": %v", clip(fmt.Sprint(v)))
	}
	b.WriteString(": " + e.Problem)
	if e.Allowed != "" {
		b.WriteString("; allowed: " + e.Allowed)
	}
	return b.String()
}

// FieldErrors returns every *FieldError that err joins or wraps, in order.
func FieldErrors(err error) []*FieldError {
	switch e := err.(type) { //nolint:errorlint // this walks the tree, one level a call
	case *FieldError:
		return []*FieldError{e}
	case interface{ Unwrap() error }:
		return FieldErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		var out []*FieldError
		for _, inner := range e.Unwrap() {
			out = append(out, FieldErrors(inner)...)
		}
		return out
	default:
		return nil
	}
}

// maxShown bounds how much of a wrong value is repeated in a message: it may come from a hostile manifest and ends in
// a status that is stored in etcd.
const maxShown = 80

func clip(s string) string {
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
