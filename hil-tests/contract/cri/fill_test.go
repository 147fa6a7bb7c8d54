package cri

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// filler sets fields of cri-api's messages: to small distinct values, or to extreme ones that show a type that is too
// narrow, of the wrong sign, or a length that is framed wrongly.
type filler struct {
	extreme bool
	n       int
}

func (f *filler) message(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); leftOut[fd.FullName()] == "" {
			f.field(m, fd)
		}
	}
}

func (f *filler) field(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
	switch {
	case fd.IsMap():
		entries := m.Mutable(fd).Map()
		for range 3 {
			entries.Set(f.scalar(fd.MapKey()).MapKey(), f.scalar(fd.MapValue()))
		}
	case fd.IsList() && fd.Message() != nil:
		list := m.Mutable(fd).List()
		for range 3 {
			f.message(list.AppendMutable().Message())
		}
	case fd.IsList():
		list := m.Mutable(fd).List()
		for range 3 {
			list.Append(f.scalar(fd))
		}
	case fd.Message() != nil:
		f.message(m.Mutable(fd).Message())
	default:
		m.Set(fd, f.scalar(fd))
	}
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	f.n++
	text := fmt.Sprintf("%s-%d-ü", fd.Name(), f.n)
	if f.extreme {
		text += strings.Repeat("x", f.n*97%20000) // lengths of one, two and three bytes
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(pick(f, int32(f.n), math.MinInt32))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(pick(f, int64(f.n), math.MinInt64))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(pick(f, uint32(f.n), math.MaxUint32))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(pick(f, uint64(f.n), math.MaxUint64))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(f, float64(f.n)/8, -math.MaxFloat64))
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	default:
		panic("cri-api uses a kind that firmware/cri cannot encode: " + fd.Kind().String())
	}
}

func pick[T any](f *filler, small, extreme T) T {
	if f.extreme {
		return extreme
	}
	return small
}

// fill sets every field of one of our messages to a value that is not zero.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{fmt.Sprint("k", *n): "v", "": "empty key", "empty value": ""}))
	case reflect.String:
		v.SetString(fmt.Sprint("s", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint32, reflect.Uint64, reflect.Uint8:
		v.SetUint(uint64(*n & 0xff))
		if v.IsZero() {
			v.SetUint(1)
		}
	case reflect.Float64:
		v.SetFloat(float64(*n) / 4)
	default:
		t.Fatalf("firmware/cri uses a type that this test cannot fill: %v", v.Type())
	}
}
