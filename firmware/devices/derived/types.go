package derived

import (
	"fmt"

	"github.com/skerry/skerry/mappers/device"
)

// Type is the type of an expression, known when it is compiled.
type Type uint8

// The types.
const (
	Invalid Type = iota
	Bool
	Int   // 64-bit signed
	Float // 64-bit
	Text
)

func (t Type) String() string {
	return [...]string{"nothing that can be calculated with", "true or false", "a whole number", "a number", "a text"}[min(t, Text)]
}

func (t Type) numeric() bool { return t == Int || t == Float }

// TypeOf returns the type that a property has in expressions; Invalid for BYTES and STREAM.
func TypeOf(t device.Type) Type {
	switch t {
	case device.TypeBoolean:
		return Bool
	case device.TypeInt:
		return Int
	case device.TypeFloat, device.TypeDouble:
		return Float
	case device.TypeString:
		return Text
	default:
		return Invalid
	}
}

// Fits tells whether a result of type t can be a value of a property of type p.
func (t Type) Fits(p device.Type) bool {
	switch p {
	case device.TypeBoolean:
		return t == Bool
	case device.TypeInt:
		return t == Bool || t.numeric()
	case device.TypeFloat, device.TypeDouble:
		return t.numeric()
	case device.TypeString:
		return t != Invalid
	default:
		return false
	}
}

// Error is what is wrong with an expression.
type Error struct {
	Pos     int    // the character that it begins at, from 1
	Problem string // what is wrong
	Allowed string // what would be right, in words; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("at character %d: %s", e.Pos, e.Problem)
	if e.Allowed != "" {
		s += "; allowed: " + e.Allowed
	}
	return s
}
