package kube

import (
	"errors"
	"fmt"

	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/wire/canon"
)

var errReportShape = errors.New("not a MessagePack document of JSON values")

// decodeReport decodes a status document into JSON values. Reports are not hashed, so unlike package canon it does not insist on
// the shortest form: generated encoders write 137 as a signed integer. All else is held to the same limits: nesting at most
// canon.MaxDepth, and no length is believed that the input is too short for.
func decodeReport(body []byte) (map[string]any, error) {
	v, rest, err := decodeValue(body, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow it", errReportShape, len(rest))
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is %T, not a map", v)
	}
	return doc, nil
}

func decodeValue(b []byte, depth int) (v any, rest []byte, err error) {
	if depth > canon.MaxDepth {
		return nil, nil, fmt.Errorf("%w: nested deeper than %d", errReportShape, canon.MaxDepth)
	}
	switch t := msgp.NextType(b); t {
	case msgp.NilType:
		rest, err = msgp.ReadNilBytes(b)
	case msgp.BoolType:
		v, rest, err = boxed(msgp.ReadBoolBytes(b))
	case msgp.IntType:
		v, rest, err = boxed(msgp.ReadInt64Bytes(b))
	case msgp.UintType:
		var u uint64
		u, rest, err = msgp.ReadUint64Bytes(b)
		if v = u; u <= 1<<63-1 {
			v = int64(u) // as the API's own decoder: uint64 only for what int64 cannot hold
		}
	case msgp.Float64Type, msgp.Float32Type:
		v, rest, err = boxed(msgp.ReadFloat64Bytes(b))
	case msgp.StrType:
		v, rest, err = boxed(msgp.ReadStringBytes(b))
	case msgp.ArrayType:
		return decodeArray(b, depth)
	case msgp.MapType:
		return decodeMap(b, depth)
	default:
		return nil, nil, fmt.Errorf("%w: it holds a %s", errReportShape, t)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errReportShape, err)
	}
	return v, rest, nil
}

func boxed[T any](v T, rest []byte, err error) (any, []byte, error) { return v, rest, err }

func decodeArray(b []byte, depth int) (any, []byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil || uint64(n) > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: a list of %d in %d bytes", errReportShape, n, len(b))
	}
	list := []any{}
	for range n {
		var v any
		if v, b, err = decodeValue(b, depth+1); err != nil {
			return nil, nil, err
		}
		list = append(list, v)
	}
	return list, b, nil
}

func decodeMap(b []byte, depth int) (any, []byte, error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil || uint64(n)*2 > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: a map of %d in %d bytes", errReportShape, n, len(b))
	}
	m := map[string]any{}
	for range n {
		var (
			k string
			v any
		)
		if k, b, err = msgp.ReadStringBytes(b); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errReportShape, err)
		}
		if v, b, err = decodeValue(b, depth+1); err != nil {
			return nil, nil, err
		}
		m[k] = v
	}
	return m, b, nil
}
