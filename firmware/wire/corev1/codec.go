package corev1

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// maxMapEntries holds the declared size of a map to something that an API object can have (objects are ≤ 1.5 MiB).
const maxMapEntries = 65536

// Time is a point in time, an RFC 3339 string on the wire. Kubernetes keeps whole seconds in most places.
type Time struct{ time.Time }

// NewTime returns t in UTC without its fraction of a second, as Kubernetes stores it; nil for the zero time.
func NewTime(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t.UTC().Truncate(time.Second)}
}

// MarshalMsg appends the time as a string.
func (t *Time) MarshalMsg(b []byte) ([]byte, error) {
	return msgp.AppendString(b, t.UTC().Format(time.RFC3339Nano)), nil
}

// UnmarshalMsg reads the time from an RFC 3339 string.
func (t *Time) UnmarshalMsg(b []byte) ([]byte, error) {
	s, rest, err := msgp.ReadStringBytes(b)
	if err != nil {
		return b, err
	}
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return b, fmt.Errorf("time %q: not RFC 3339", clip(s))
	}
	t.Time = v.UTC()
	return rest, nil
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (t *Time) Msgsize() int { return msgp.StringPrefixSize + len(time.RFC3339Nano) }

// IntOrString is an integer or a string, for instance a port or a port's name.
type IntOrString struct {
	IsString bool
	Int      int64
	Str      string
}

// String returns the value in words.
func (v IntOrString) String() string {
	if v.IsString {
		return v.Str
	}
	return strconv.FormatInt(v.Int, 10)
}

// MarshalMsg appends the integer or the string.
func (v *IntOrString) MarshalMsg(b []byte) ([]byte, error) {
	if v.IsString {
		return msgp.AppendString(b, v.Str), nil
	}
	return msgp.AppendInt64(b, v.Int), nil
}

// UnmarshalMsg reads an integer or a string.
func (v *IntOrString) UnmarshalMsg(b []byte) (rest []byte, err error) {
	if msgp.NextType(b) == msgp.StrType {
		s, rest, err := msgp.ReadStringBytes(b)
		*v = IntOrString{IsString: true, Str: s}
		return rest, err
	}
	i, rest, err := msgp.ReadInt64Bytes(b)
	if err != nil {
		return b, err
	}
	*v = IntOrString{Int: i}
	return rest, nil
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (v *IntOrString) Msgsize() int { return msgp.StringPrefixSize + len(v.Str) + msgp.Int64Size }

// Base64 is bytes that travel as a base64 string, as in the JSON of Kubernetes.
type Base64 []byte

// MarshalMsg appends the bytes as a base64 string.
func (v Base64) MarshalMsg(b []byte) ([]byte, error) {
	return msgp.AppendString(b, base64.StdEncoding.EncodeToString(v)), nil
}

// UnmarshalMsg reads the bytes from a base64 string.
func (v *Base64) UnmarshalMsg(b []byte) ([]byte, error) {
	s, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return b, err
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(out, s)
	if err != nil {
		return b, fmt.Errorf("base64 string: %w", err)
	}
	*v = out[:n]
	return rest, nil
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (v Base64) Msgsize() int {
	return msgp.StringPrefixSize + base64.StdEncoding.EncodedLen(len(v))
}

// StringMap is a map of strings, encoded in the order of its keys.
type StringMap map[string]string

// IsZero reports whether the map is empty, and so left out of its struct's encoding.
func (m StringMap) IsZero() bool { return len(m) == 0 }

// MarshalMsg appends the map in the order of its keys.
func (m StringMap) MarshalMsg(b []byte) ([]byte, error) {
	return appendMap(b, m, func(b []byte, v string) ([]byte, error) { return msgp.AppendString(b, v), nil })
}

// UnmarshalMsg reads the map.
func (m *StringMap) UnmarshalMsg(b []byte) ([]byte, error) {
	return readMap(b, (*map[string]string)(m), msgp.ReadStringBytes)
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (m StringMap) Msgsize() int { return mapSize(m, func(v string) int { return len(v) }) }

// BytesMap is a map of bytes in base64, encoded in the order of its keys.
type BytesMap map[string]Base64

// IsZero reports whether the map is empty, and so left out of its struct's encoding.
func (m BytesMap) IsZero() bool { return len(m) == 0 }

// MarshalMsg appends the map in the order of its keys.
func (m BytesMap) MarshalMsg(b []byte) ([]byte, error) {
	return appendMap(b, m, func(b []byte, v Base64) ([]byte, error) { return v.MarshalMsg(b) })
}

// UnmarshalMsg reads the map.
func (m *BytesMap) UnmarshalMsg(b []byte) ([]byte, error) {
	return readMap(b, (*map[string]Base64)(m), func(b []byte) (v Base64, rest []byte, err error) {
		rest, err = v.UnmarshalMsg(b)
		return v, rest, err
	})
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (m BytesMap) Msgsize() int { return mapSize(m, Base64.Msgsize) }

// ResourceList maps a resource's name to a quantity, encoded in the order of its keys.
type ResourceList map[string]Quantity

// IsZero reports whether the list is empty, and so left out of its struct's encoding.
func (m ResourceList) IsZero() bool { return len(m) == 0 }

// MarshalMsg appends the list in the order of its keys.
func (m ResourceList) MarshalMsg(b []byte) ([]byte, error) {
	return appendMap(b, m, func(b []byte, v Quantity) ([]byte, error) { return v.MarshalMsg(b) })
}

// UnmarshalMsg reads the list.
func (m *ResourceList) UnmarshalMsg(b []byte) ([]byte, error) {
	return readMap(b, (*map[string]Quantity)(m), func(b []byte) (v Quantity, rest []byte, err error) {
		rest, err = v.UnmarshalMsg(b)
		return v, rest, err
	})
}

// Msgsize returns an upper bound of the encoded size in bytes.
func (m ResourceList) Msgsize() int { return mapSize(m, func(v Quantity) int { return len(v) }) }

func appendMap[M ~map[string]V, V any](b []byte, m M, appendValue func([]byte, V) ([]byte, error)) ([]byte, error) {
	if len(m) > maxMapEntries {
		return b, fmt.Errorf("map has %d entries, the limit is %d", len(m), maxMapEntries)
	}
	b = msgp.AppendMapHeader(b, uint32(len(m))) //nolint:gosec // bounded just above
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = msgp.AppendString(b, k)
		var err error
		if b, err = appendValue(b, m[k]); err != nil {
			return b, fmt.Errorf("map key %q: %w", clip(k), err)
		}
	}
	return b, nil
}

func readMap[V any](b []byte, m *map[string]V, readValue func([]byte) (V, []byte, error)) ([]byte, error) {
	n, rest, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return b, err
	}
	// Each entry takes two bytes at least, so that a declared size beyond the input is refused before memory is taken.
	if n > maxMapEntries || int64(n)*2 > int64(len(rest)) {
		return b, fmt.Errorf("map declares %d entries: %w", n, msgp.ErrLimitExceeded)
	}
	out := make(map[string]V, n)
	for range n {
		var k string
		if k, rest, err = msgp.ReadStringBytes(rest); err != nil {
			return b, fmt.Errorf("map key: %w", err)
		}
		var v V
		if v, rest, err = readValue(rest); err != nil {
			return b, fmt.Errorf("map key %q: %w", clip(k), err)
		}
		out[k] = v
	}
	*m = out
	return rest, nil
}

func mapSize[M ~map[string]V, V any](m M, size func(V) int) int {
	n := msgp.MapHeaderSize
	for k, v := range m {
		n += 2*msgp.StringPrefixSize + len(k) + size(v)
	}
	return n
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
