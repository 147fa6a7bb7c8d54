package dmi

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/skerry/skerry/firmware/grpcwire"
)

// configData is free-form; on the wire each of its values is a google.protobuf.Any of one of protobuf's wrappers, as KubeEdge has it, or of
// Struct or ListValue for what has more than one value, which KubeEdge cannot carry.

const typePrefix = "type.googleapis.com/google.protobuf."

// maxNesting bounds a value of configData.
const maxNesting = 16

// wrapper types. Each has its value in field 1.
type (
	stringValue struct{ v string }
	boolValue   struct{ v bool }
	intValue    struct{ v int64 }
	uintValue   struct{ v uint64 }
	doubleValue struct{ v float64 }
	bytesValue  struct{ v []byte }
	listValue   struct{ values []jsonValue }
	structValue struct{ fields []structField }
	structField struct {
		key   string
		value *jsonValue
	}
)

// jsonValue is google.protobuf.Value: a oneof, in which a zero value is written too.
type jsonValue struct {
	null   bool
	number *float64
	text   *string
	truth  *bool
	object *structValue
	list   *listValue
}

func (m *stringValue) Walk(f *grpcwire.Fields) { f.Str(1, &m.v) }
func (m *boolValue) Walk(f *grpcwire.Fields)   { f.Bool(1, &m.v) }
func (m *intValue) Walk(f *grpcwire.Fields)    { grpcwire.Num(f, 1, &m.v) }
func (m *uintValue) Walk(f *grpcwire.Fields)   { grpcwire.Num(f, 1, &m.v) }
func (m *doubleValue) Walk(f *grpcwire.Fields) { f.Double(1, &m.v) }
func (m *bytesValue) Walk(f *grpcwire.Fields)  { f.Bytes(1, &m.v) }
func (m *listValue) Walk(f *grpcwire.Fields)   { grpcwire.Rep(f, 1, &m.values) }
func (m *structValue) Walk(f *grpcwire.Fields) { grpcwire.Rep(f, 1, &m.fields) }
func (m *structField) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.key)
	grpcwire.Opt(f, 2, &m.value)
}

func (m *jsonValue) Walk(f *grpcwire.Fields) {
	f.OneofZero(1, m.null)
	f.OneofDouble(2, &m.number)
	f.OneofStr(3, &m.text)
	f.OneofBool(4, &m.truth)
	grpcwire.Opt(f, 5, &m.object)
	grpcwire.Opt(f, 6, &m.list)
}

// toAny wraps a value as it was decoded from MessagePack.
func toAny(v any) *anyMessage {
	wrap := func(name string, m grpcwire.Message) *anyMessage {
		return &anyMessage{TypeURL: typePrefix + name, Value: grpcwire.Marshal(m)}
	}
	switch v := v.(type) {
	case nil:
		return wrap("Value", &jsonValue{null: true})
	case string:
		return wrap("StringValue", &stringValue{v})
	case bool:
		return wrap("BoolValue", &boolValue{v})
	case int:
		return wrap("Int64Value", &intValue{int64(v)})
	case int64:
		return wrap("Int64Value", &intValue{v})
	case uint64:
		if v <= math.MaxInt64 {
			return wrap("Int64Value", &intValue{int64(v)})
		}
		return wrap("UInt64Value", &uintValue{v})
	case float32:
		return wrap("DoubleValue", &doubleValue{float64(v)})
	case float64:
		return wrap("DoubleValue", &doubleValue{v})
	case []byte:
		return wrap("BytesValue", &bytesValue{v})
	case map[string]any:
		return wrap("Struct", structOf(v, maxNesting))
	case []any:
		return wrap("ListValue", listOf(v, maxNesting))
	default:
		return wrap("StringValue", &stringValue{fmt.Sprint(v)})
	}
}

func structOf(v map[string]any, depth int) *structValue {
	out := &structValue{}
	for _, k := range slices.Sorted(maps.Keys(v)) {
		value := jsonOf(v[k], depth-1)
		out.fields = append(out.fields, structField{k, &value})
	}
	return out
}

func listOf(v []any, depth int) *listValue {
	out := &listValue{}
	for _, e := range v {
		out.values = append(out.values, jsonOf(e, depth-1))
	}
	return out
}

func jsonOf(v any, depth int) jsonValue {
	number := func(f float64) jsonValue { return jsonValue{number: &f} }
	switch v := v.(type) {
	case nil:
		return jsonValue{null: true}
	case bool:
		return jsonValue{truth: &v}
	case int:
		return number(float64(v))
	case int64:
		return number(float64(v))
	case uint64:
		return number(float64(v))
	case float32:
		return number(float64(v))
	case float64:
		return number(v)
	case map[string]any:
		if depth > 0 {
			return jsonValue{object: structOf(v, depth)}
		}
	case []any:
		if depth > 0 {
			return jsonValue{list: listOf(v, depth)}
		}
	}
	text := fmt.Sprint(v)
	return jsonValue{text: &text}
}

func customized(data map[string]any) *customizedValue {
	out := &customizedValue{}
	for _, k := range slices.Sorted(maps.Keys(data)) {
		out.Data = append(out.Data, anyEntry{k, toAny(data[k])})
	}
	return out
}
