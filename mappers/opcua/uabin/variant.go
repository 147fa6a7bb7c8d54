package uabin

import (
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"
)

// Variant is a value of any built-in type, or an array of such.
type Variant struct {
	Type  ua.TypeID // TypeIDNull for no value
	Array bool
	// Dims are the dimensions of an array that has more than one; V is flat, the last index runs fastest.
	Dims []int32
	// V is a Go scalar or slice: bool, int8 … uint64, float32, float64, string, time.Time, *ua.GUID, []byte, ua.XMLElement, *ua.NodeID,
	// *ua.ExpandedNodeID, ua.StatusCode, *ua.QualifiedName, *ua.LocalizedText, Extension, DataValue, Variant, *ua.DiagnosticInfo.
	V any
}

// DataValue is a value with its status and timestamps.
type DataValue struct {
	Value  Variant
	Status ua.StatusCode
	Source time.Time // zero if the server did not say
	Server time.Time
}

// DataValue reads a DataValue (Part 6, section 5.2.2.17).
func (r *Reader) DataValue() DataValue {
	var d DataValue
	mask := r.Uint8()
	if mask&ua.DataValueValue != 0 {
		d.Value = r.Variant()
	}
	if mask&ua.DataValueStatusCode != 0 {
		d.Status = r.StatusCode()
	}
	if mask&ua.DataValueSourceTimestamp != 0 {
		d.Source = r.Time()
	}
	if mask&ua.DataValueSourcePicoseconds != 0 {
		r.Uint16()
	}
	if mask&ua.DataValueServerTimestamp != 0 {
		d.Server = r.Time()
	}
	if mask&ua.DataValueServerPicoseconds != 0 {
		r.Uint16()
	}
	return d
}

// Variant reads a Variant (Part 6, section 5.2.2.16).
func (r *Reader) Variant() Variant {
	defer func() { r.depth-- }()
	if !r.deeper() {
		return Variant{}
	}
	mask := r.Uint8()
	v := Variant{Type: ua.TypeID(mask & 0x3f), Array: mask&ua.VariantArrayValues != 0}
	// Types 26 to 31 are reserved and read as ByteString (Part 6, section 5.2.2.16).
	if v.Type > ua.TypeIDDiagnosticInfo && v.Type < 32 {
		v.Type = ua.TypeIDByteString
	}
	if v.Type == ua.TypeIDNull || r.err != nil {
		return Variant{}
	}
	if !v.Array {
		v.V = r.scalar(v.Type)
	} else {
		v.V = r.array(v.Type)
		if mask&ua.VariantArrayDimensions != 0 {
			v.Dims = r.dims(length(v.V))
		}
	}
	if r.err != nil {
		return Variant{}
	}
	return v
}

// dims reads the dimensions of an array of n elements; nil if there is only one.
func (r *Reader) dims(n int) []int32 {
	count := r.Array(4)
	if count > maxDepth {
		r.Fail(errors.New("array has too many dimensions"))
		return nil
	}
	out, product := make([]int32, 0, count), int64(1)
	for range count {
		d := r.Int32()
		if out = append(out, d); d < 0 || product > 0 && int64(d) > int64(len(r.b))/product {
			r.Fail(fmt.Errorf("array of %d elements has dimensions %v", n, out))
			return nil
		}
		product *= int64(d)
	}
	if count > 0 && product != int64(n) {
		r.Fail(fmt.Errorf("array of %d elements has dimensions %v", n, out))
	}
	if count < 2 {
		return nil
	}
	return out
}

// scalar reads one value of a built-in type.
func (r *Reader) scalar(t ua.TypeID) any {
	if v, ok := r.Simple(t); ok {
		return v
	}
	return r.parts(t)
}

// Simple reads one value of a built-in type that has no parts. Of the other types it reads nothing, and returns false.
func (r *Reader) Simple(t ua.TypeID) (any, bool) {
	switch t {
	case ua.TypeIDBoolean:
		return r.Bool(), true
	case ua.TypeIDSByte:
		return r.Int8(), true
	case ua.TypeIDByte:
		return r.Uint8(), true
	case ua.TypeIDInt16:
		return r.Int16(), true
	case ua.TypeIDUint16:
		return r.Uint16(), true
	case ua.TypeIDInt32:
		return r.Int32(), true
	case ua.TypeIDUint32:
		return r.Uint32(), true
	case ua.TypeIDInt64:
		return r.Int64(), true
	case ua.TypeIDUint64:
		return r.Uint64(), true
	case ua.TypeIDFloat:
		return r.Float32(), true
	case ua.TypeIDDouble:
		return r.Float64(), true
	case ua.TypeIDString:
		return r.String(), true
	case ua.TypeIDDateTime:
		return r.Time(), true
	case ua.TypeIDByteString:
		return r.Bytes(), true
	case ua.TypeIDStatusCode:
		return r.StatusCode(), true
	default:
		return nil, false
	}
}

// composite is given for min by arrays whose elements are bounded by maxElements.
const composite = 0

// parts reads one value of a built-in type that has parts.
func (r *Reader) parts(t ua.TypeID) any {
	switch t {
	case ua.TypeIDGUID:
		return r.GUID()
	case ua.TypeIDXMLElement:
		return ua.XMLElement(r.String())
	case ua.TypeIDNodeID:
		return r.NodeID()
	case ua.TypeIDExpandedNodeID:
		return r.ExpandedNodeID()
	case ua.TypeIDQualifiedName:
		return r.QualifiedName()
	case ua.TypeIDLocalizedText:
		return r.LocalizedText()
	case ua.TypeIDExtensionObject:
		return r.Extension()
	case ua.TypeIDDataValue:
		return r.DataValue()
	case ua.TypeIDVariant:
		return r.Variant()
	case ua.TypeIDDiagnosticInfo:
		return r.DiagnosticInfo()
	default:
		r.Fail(fmt.Errorf("unknown built-in type %d", t))
		return nil
	}
}

// slice reads an array whose elements take min bytes at least; composite if they take much more memory than that.
func slice[T any](r *Reader, min int, one func() T) []T {
	n := r.Array(min)
	if min == composite && !r.spend(n) {
		return nil
	}
	out := make([]T, 0, n)
	for range n {
		if out = append(out, one()); r.err != nil {
			return nil
		}
	}
	return out
}

// array reads an array of a built-in type.
func (r *Reader) array(t ua.TypeID) any {
	switch t {
	case ua.TypeIDBoolean:
		return slice(r, 1, r.Bool)
	case ua.TypeIDSByte:
		return slice(r, 1, r.Int8)
	case ua.TypeIDByte:
		return slice(r, 1, r.Uint8)
	case ua.TypeIDInt16:
		return slice(r, 2, r.Int16)
	case ua.TypeIDUint16:
		return slice(r, 2, r.Uint16)
	case ua.TypeIDInt32:
		return slice(r, 4, r.Int32)
	case ua.TypeIDUint32:
		return slice(r, 4, r.Uint32)
	case ua.TypeIDInt64:
		return slice(r, 8, r.Int64)
	case ua.TypeIDUint64:
		return slice(r, 8, r.Uint64)
	case ua.TypeIDFloat:
		return slice(r, 4, r.Float32)
	case ua.TypeIDDouble:
		return slice(r, 8, r.Float64)
	case ua.TypeIDString:
		return slice(r, 4, r.String)
	case ua.TypeIDDateTime:
		return slice(r, 8, r.Time)
	case ua.TypeIDByteString:
		return slice(r, 4, r.Bytes)
	case ua.TypeIDStatusCode:
		return slice(r, 4, r.StatusCode)
	default:
		return r.compositeArray(t)
	}
}

// compositeArray reads an array of a built-in type that has parts.
func (r *Reader) compositeArray(t ua.TypeID) any {
	switch t {
	case ua.TypeIDGUID:
		return slice(r, composite, r.GUID)
	case ua.TypeIDXMLElement:
		return slice(r, 4, func() ua.XMLElement { return ua.XMLElement(r.String()) })
	case ua.TypeIDNodeID:
		return slice(r, composite, r.NodeID)
	case ua.TypeIDExpandedNodeID:
		return slice(r, composite, r.ExpandedNodeID)
	case ua.TypeIDQualifiedName:
		return slice(r, composite, r.QualifiedName)
	case ua.TypeIDLocalizedText:
		return slice(r, composite, r.LocalizedText)
	case ua.TypeIDExtensionObject:
		return slice(r, composite, r.Extension)
	case ua.TypeIDDataValue:
		return slice(r, composite, r.DataValue)
	case ua.TypeIDVariant:
		return slice(r, composite, r.Variant)
	case ua.TypeIDDiagnosticInfo:
		return slice(r, composite, r.DiagnosticInfo)
	default:
		r.Fail(fmt.Errorf("unknown built-in type %d", t))
		return nil
	}
}
