package opcua

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// variant makes of a model's value what a node of this type takes. Its errors name the value.
func (c *client) variant(v device.Value, info *nodeInfo, p *point) (uabin.Variant, error) {
	out := uabin.Variant{Type: info.typ}
	extra := p.extra()
	one := func(e device.Value) (any, error) { return c.element(e, info.typ) }
	switch {
	case info.array && extra.single:
		x, err := one(v)
		if err != nil {
			return out, err
		}
		out.Array, out.V = true, listOf([]any{x})
		return out, nil
	case info.array || extra.index != "" && info.typ != ua.TypeIDString && info.typ != ua.TypeIDByteString:
		if v.Kind() == device.KindBytes && info.typ == ua.TypeIDByte {
			out.Array, out.V = true, v.AsBytes()
			return out, nil
		}
		flat, dims, err := parseList(v, one)
		if err != nil {
			return out, err
		}
		out.Array, out.Dims, out.V = true, dims, listOf(flat)
		if len(flat) == 0 {
			x, _ := one(device.Int(0))
			if x == nil {
				return out, fmt.Errorf("an empty list of %s cannot be written", typeName(info.typ))
			}
			out.V = reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(x)), 0, 0).Interface()
		}
		return out, nil
	}
	var err error
	out.V, err = one(v)
	return out, err
}

// listOf makes a typed slice.
func listOf(flat []any) any {
	if len(flat) == 0 {
		return nil
	}
	s := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(flat[0])), 0, len(flat))
	for _, x := range flat {
		s = reflect.Append(s, reflect.ValueOf(x))
	}
	return s.Interface()
}

// maxList limits how many elements a written list has.
const maxList = 65535

// parseList reads a JSON list, or lists of lists of equal length.
func parseList(v device.Value, one func(device.Value) (any, error)) (flat []any, dims []int32, err error) {
	dec := json.NewDecoder(strings.NewReader(v.Text()))
	dec.UseNumber()
	var tree any
	list, ok := []any(nil), false
	if err := dec.Decode(&tree); err == nil {
		list, ok = tree.([]any)
	}
	if !ok {
		return nil, nil, fmt.Errorf("%q is not a list, and the node is an array: write it as JSON, e.g. [1, 2, 3]", clip(v.Text()))
	}
	if err := walk(list, 0, &dims, &flat, one); err != nil {
		return nil, nil, err
	}
	if len(dims) < 2 {
		dims = nil
	}
	return flat, dims, nil
}

var errMixedList = fmt.Errorf("the list has elements and lists side by side, or more than %d elements", maxList)

// walk appends the elements of a list to flat, and checks that all lists of a level are equally long.
func walk(list []any, level int, dims *[]int32, flat *[]any, one func(device.Value) (any, error)) error {
	if level == len(*dims) {
		*dims = append(*dims, int32(len(list)))
	}
	if int((*dims)[level]) != len(list) || level > 16 {
		return errors.New("the lists within the list are not equally long")
	}
	for _, e := range list {
		if inner, ok := e.([]any); ok {
			if level+1 == len(*dims) && len(*flat) > 0 {
				return errMixedList
			}
			if err := walk(inner, level+1, dims, flat, one); err != nil {
				return err
			}
			continue
		}
		if level != len(*dims)-1 || len(*flat) >= maxList {
			return errMixedList
		}
		v, err := jsonValue(e)
		if err != nil {
			return err
		}
		x, err := one(v)
		if err != nil {
			return err
		}
		*flat = append(*flat, x)
	}
	return nil
}

func jsonValue(e any) (device.Value, error) {
	switch x := e.(type) {
	case bool:
		return device.Bool(x), nil
	case json.Number:
		if v, err := device.Parse(x.String(), device.TypeInt); err == nil {
			return v, nil
		}
		return device.Parse(x.String(), device.TypeDouble)
	case string:
		return device.String(x), nil
	default:
		return device.Value{}, errors.New("the list has elements that are neither numbers nor texts nor true or false")
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// typeName is a built-in type's name in the standard.
func typeName(t ua.TypeID) string {
	names := [...]string{"Null", "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double", "String", "DateTime", "Guid",
		"ByteString", "XmlElement", "NodeId", "ExpandedNodeId", "StatusCode", "QualifiedName", "LocalizedText", "structure", "DataValue", "BaseDataType", "DiagnosticInfo"}
	if int(t) < len(names) {
		return names[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// element makes of a scalar what a built-in type holds.
func (c *client) element(v device.Value, t ua.TypeID) (any, error) {
	switch t {
	case ua.TypeIDBoolean:
		b, err := v.Convert(device.TypeBoolean)
		if v.Kind() == device.KindString {
			b, err = device.Parse(v.Text(), device.TypeBoolean)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", clip(v.Text()))
		}
		return b.AsBool(), nil
	case ua.TypeIDSByte, ua.TypeIDByte, ua.TypeIDInt16, ua.TypeIDUint16, ua.TypeIDInt32, ua.TypeIDUint32, ua.TypeIDInt64, ua.TypeIDUint64, ua.TypeIDStatusCode:
		return integer(v, t)
	case ua.TypeIDFloat, ua.TypeIDDouble:
		return float(v, t)
	case ua.TypeIDString:
		return v.Text(), nil
	case ua.TypeIDXMLElement:
		return ua.XMLElement(v.Text()), nil
	case ua.TypeIDLocalizedText:
		return ua.NewLocalizedText(v.Text()), nil
	case ua.TypeIDByteString:
		if v.Kind() == device.KindBytes {
			return v.AsBytes(), nil
		}
		return []byte(v.Text()), nil
	case ua.TypeIDDateTime:
		return dateTime(v)
	default:
		return c.identifier(v, t)
	}
}

// identifier makes values of the built-in types that name something.
func (c *client) identifier(v device.Value, t ua.TypeID) (any, error) {
	switch t {
	case ua.TypeIDGUID:
		if g := ua.NewGUID(v.Text()); g != nil {
			return g, nil
		}
		return nil, fmt.Errorf("%q is not a GUID", clip(v.Text()))
	case ua.TypeIDQualifiedName:
		ns, name, found := strings.Cut(v.Text(), ":")
		if n, err := strconv.ParseUint(ns, 10, 16); found && err == nil {
			return &ua.QualifiedName{NamespaceIndex: uint16(n), Name: name}, nil
		}
		return &ua.QualifiedName{Name: v.Text()}, nil
	case ua.TypeIDNodeID, ua.TypeIDExpandedNodeID:
		a, err := parseAddress(v.Text())
		if err != nil {
			return nil, fmt.Errorf("%q is not a node id: it %w", clip(v.Text()), err)
		}
		node, err := a.resolve(c.namespaces)
		if err != nil {
			return nil, err
		}
		if t == ua.TypeIDNodeID {
			return node, nil
		}
		return ua.NewExpandedNodeID(node, "", 0), nil
	default:
		return nil, fmt.Errorf("a value of type %s cannot be written", typeName(t))
	}
}

// bounds of the integer types.
func bounds(t ua.TypeID) (low int64, high uint64) {
	switch t {
	case ua.TypeIDSByte:
		return math.MinInt8, math.MaxInt8
	case ua.TypeIDByte:
		return 0, math.MaxUint8
	case ua.TypeIDInt16:
		return math.MinInt16, math.MaxInt16
	case ua.TypeIDUint16:
		return 0, math.MaxUint16
	case ua.TypeIDInt32:
		return math.MinInt32, math.MaxInt32
	case ua.TypeIDInt64:
		return math.MinInt64, math.MaxInt64
	case ua.TypeIDUint64:
		return 0, math.MaxUint64
	default:
		return 0, math.MaxUint32
	}
}

// integer makes an integer, if the value is a whole number that fits.
func integer(v device.Value, t ua.TypeID) (any, error) {
	n := v
	low, high := bounds(t)
	outside := func() error {
		return fmt.Errorf("%s is out of range: the node is of type %s, %d to %d", clip(v.Text()), typeName(t), low, high)
	}
	switch v.Kind() {
	case device.KindBool:
		n = device.Uint(v.AsUint())
	case device.KindString:
		parsed, err := device.Parse(v.Text(), device.TypeInt)
		if err != nil {
			return nil, err
		}
		n = parsed
	case device.KindFloat:
		switch f := v.AsFloat(); {
		case f != math.Trunc(f): // not a number, too
			return nil, fmt.Errorf("%s is not a whole number, and the node is of type %s, %d to %d", v.Text(), typeName(t), low, high)
		case f >= 1<<63 && f < 1<<64:
			n = device.Uint(uint64(f))
		case f < -1<<63 || f >= 1<<64:
			return nil, outside()
		default:
			n = device.Int(int64(f))
		}
	case device.KindInt, device.KindUint:
	default:
		return nil, fmt.Errorf("%q is not a number, and the node is of type %s", clip(v.Text()), typeName(t))
	}
	if device.Compare(n, device.Int(low)) < 0 || device.Compare(n, device.Uint(high)) > 0 {
		return nil, outside()
	}
	i := n.AsInt()
	switch t {
	case ua.TypeIDSByte:
		return int8(i), nil
	case ua.TypeIDByte:
		return uint8(i), nil
	case ua.TypeIDInt16:
		return int16(i), nil
	case ua.TypeIDUint16:
		return uint16(i), nil
	case ua.TypeIDInt32:
		return int32(i), nil
	case ua.TypeIDUint32:
		return uint32(i), nil
	case ua.TypeIDInt64:
		return i, nil
	case ua.TypeIDStatusCode:
		return ua.StatusCode(i), nil
	default:
		return n.AsUint(), nil
	}
}

func float(v device.Value, t ua.TypeID) (any, error) {
	n := v
	switch v.Kind() {
	case device.KindString:
		parsed, err := device.Parse(v.Text(), device.TypeDouble)
		if err != nil {
			return nil, err
		}
		n = parsed
	case device.KindBool:
		n = device.Uint(v.AsUint())
	case device.KindInt, device.KindUint, device.KindFloat:
	default:
		return nil, fmt.Errorf("%q is not a number, and the node is of type %s", clip(v.Text()), typeName(t))
	}
	f := n.AsFloat()
	if t == ua.TypeIDDouble {
		return f, nil
	}
	if math.Abs(f) > math.MaxFloat32 && !math.IsInf(f, 0) {
		return nil, fmt.Errorf("%s is out of range: the node is of type Float, %g to %g", v.Text(), -math.MaxFloat32, math.MaxFloat32)
	}
	return float32(f), nil
}

// dateTime reads RFC 3339, or milliseconds since 1970, or seconds with a fraction.
func dateTime(v device.Value) (any, error) {
	switch v.Kind() {
	case device.KindInt, device.KindUint:
		return time.UnixMilli(v.AsInt()).UTC(), nil
	case device.KindFloat:
		return time.UnixMilli(int64(math.Round(v.AsFloat() * 1000))).UTC(), nil
	default:
		at, err := time.Parse(time.RFC3339Nano, v.Text())
		if err != nil || at.Year() < 1601 || at.Year() > 2200 {
			return nil, fmt.Errorf("%q is not a time: write it as 2026-11-23T12:00:00Z", clip(v.Text()))
		}
		return at.UTC(), nil
	}
}
