package canon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tinylib/msgp/msgp"
)

// Limits of a document.
const (
	MaxDepth = 64      // arrays and objects inside each other
	MaxSize  = 8 << 20 // bytes, of JSON and of MessagePack: etcd refuses values far smaller
)

// Errors that callers may tell apart.
var (
	ErrTooDeep = errors.New("nested deeper than 64 levels")
	ErrTooBig  = errors.New("larger than 8 MiB")
)

// FromJSON encodes JSON text.
func FromJSON(text []byte) ([]byte, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("canonical encoding of JSON: %d bytes: %w", len(text), ErrTooBig)
	}
	if err := checkJSONDepth(text); err != nil {
		return nil, fmt.Errorf("canonical encoding of JSON: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("canonical encoding of JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("canonical encoding of JSON: text after the value")
	}
	return FromValue(v)
}

// FromValue encodes a value made of map[string]any, []any, map[string]string, []string, string, bool, nil, json.Number and
// Go's integers and floats. Integers of any Go type encode as integers, floats as floats.
func FromValue(v any) ([]byte, error) {
	b, err := appendValue(make([]byte, 0, 256), v, 0)
	if err != nil {
		return nil, fmt.Errorf("canonical encoding: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("canonical encoding: %d bytes: %w", len(b), ErrTooBig)
	}
	return b, nil
}

// DropNulls removes object members whose value is null, at any depth, in place, and returns v. Typed decoders refuse nil
// where a string, a number or a struct is expected, and in typed Kubernetes objects null means the same as absent.
// Nulls inside arrays stay.
func DropNulls(v any) any {
	switch t := v.(type) {
	case map[string]any:
		for k, e := range t {
			if e == nil {
				delete(t, k)
				continue
			}
			DropNulls(e)
		}
	case []any:
		for _, e := range t {
			DropNulls(e)
		}
	}
	return v
}

// checkJSONDepth walks the text once, so that a deep text is refused before a tree is built for it.
func checkJSONDepth(text []byte) error {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return ErrTooDeep
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	switch t := v.(type) {
	case nil:
		return msgp.AppendNil(b), nil
	case bool:
		return msgp.AppendBool(b, t), nil
	case string:
		return msgp.AppendString(b, strings.ToValidUTF8(t, "\uFFFD")), nil
	case json.Number:
		return appendNumber(b, string(t))
	case map[string]any:
		return appendMap(b, t, depth, appendValue)
	case map[string]string:
		return appendMap(b, t, depth, func(b []byte, s string, d int) ([]byte, error) { return appendValue(b, s, d) })
	case []any:
		return appendArray(b, t, depth)
	case []string:
		return appendArray(b, t, depth)
	}
	return appendScalar(b, v)
}

func appendScalar(b []byte, v any) ([]byte, error) {
	switch t := v.(type) {
	case int:
		return appendInt(b, int64(t)), nil
	case int8:
		return appendInt(b, int64(t)), nil
	case int16:
		return appendInt(b, int64(t)), nil
	case int32:
		return appendInt(b, int64(t)), nil
	case int64:
		return appendInt(b, t), nil
	case uint:
		return msgp.AppendUint64(b, uint64(t)), nil
	case uint8:
		return msgp.AppendUint64(b, uint64(t)), nil
	case uint16:
		return msgp.AppendUint64(b, uint64(t)), nil
	case uint32:
		return msgp.AppendUint64(b, uint64(t)), nil
	case uint64:
		return msgp.AppendUint64(b, t), nil
	case float32:
		return appendFloat(b, float64(t))
	case float64:
		return appendFloat(b, t)
	}
	return nil, fmt.Errorf("a Go value of type %T has no JSON form", v)
}

func appendInt(b []byte, i int64) []byte {
	if i >= 0 {
		return msgp.AppendUint64(b, uint64(i))
	}
	return msgp.AppendInt64(b, i)
}

func appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("JSON has no number %v", f)
	}
	return msgp.AppendFloat64(b, f), nil
}

func appendNumber(b []byte, s string) ([]byte, error) {
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return appendInt(b, i), nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return msgp.AppendUint64(b, u), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("number %.40q: %w", s, errors.Unwrap(err))
	}
	return appendFloat(b, f)
}

func appendArray[E any](b []byte, a []E, depth int) ([]byte, error) {
	if depth >= MaxDepth {
		return nil, ErrTooDeep
	}
	b = msgp.AppendArrayHeader(b, uint32(len(a)))
	var err error
	for _, e := range a {
		if b, err = appendValue(b, e, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendMap[E any](b []byte, m map[string]E, depth int, element func([]byte, E, int) ([]byte, error)) ([]byte, error) {
	if depth >= MaxDepth {
		return nil, ErrTooDeep
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		if clean := strings.ToValidUTF8(k, "\uFFFD"); clean != k {
			return nil, fmt.Errorf("key %.40q is not UTF-8", k)
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = msgp.AppendMapHeader(b, uint32(len(m)))
	var err error
	for _, k := range keys {
		b = msgp.AppendString(b, k)
		if b, err = element(b, m[k], depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}
