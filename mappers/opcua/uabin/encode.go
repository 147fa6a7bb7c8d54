package uabin

import (
	"fmt"
	"reflect"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// WriteRequest is ua.WriteRequest with values of this package: gopcua's encoder writes arrays of ByteStrings wrongly.
type WriteRequest struct {
	RequestHeader *ua.RequestHeader
	NodesToWrite  []*WriteValue
}

// WriteValue is one value to write.
type WriteValue struct {
	NodeID      *ua.NodeID
	AttributeID ua.AttributeID
	IndexRange  string
	Value       *DataValue
}

// Header implements ua.Request.
func (w *WriteRequest) Header() *ua.RequestHeader { return w.RequestHeader }

// SetHeader implements ua.Request.
func (w *WriteRequest) SetHeader(h *ua.RequestHeader) { w.RequestHeader = h }

// CallRequest is ua.CallRequest with values of this package.
type CallRequest struct {
	RequestHeader *ua.RequestHeader
	MethodsToCall []*CallMethod
}

// CallMethod is one method to call.
type CallMethod struct {
	ObjectID *ua.NodeID
	MethodID *ua.NodeID
	Inputs   []*Variant
}

// Header implements ua.Request.
func (c *CallRequest) Header() *ua.RequestHeader { return c.RequestHeader }

// SetHeader implements ua.Request.
func (c *CallRequest) SetHeader(h *ua.RequestHeader) { c.RequestHeader = h }

// EncodeRequest encodes a service request with its type.
func EncodeRequest(req ua.Request) ([]byte, error) {
	var t uint16
	switch req.(type) {
	case *WriteRequest:
		t = id.WriteRequest_Encoding_DefaultBinary
	case *CallRequest:
		t = id.CallRequest_Encoding_DefaultBinary
	default:
		if t = ua.ServiceTypeID(req); t == 0 {
			return nil, fmt.Errorf("request of unknown type %T", req)
		}
	}
	head, err := ua.NewFourByteExpandedNodeID(0, t).Encode()
	if err != nil {
		return nil, err
	}
	body, err := ua.Encode(req)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", req, err)
	}
	return append(head, body...), nil
}

// Encode implements ua.BinaryEncoder. Only what is set is written: servers refuse timestamps and a status from a client.
func (d *DataValue) Encode() ([]byte, error) {
	b, err := d.Value.Encode()
	return append([]byte{ua.DataValueValue}, b...), err
}

// Encode implements ua.BinaryEncoder.
func (v *Variant) Encode() ([]byte, error) {
	buf := ua.NewBuffer(nil)
	mask := byte(v.Type)
	if v.Array {
		mask |= ua.VariantArrayValues
	}
	if len(v.Dims) > 1 {
		mask |= ua.VariantArrayDimensions
	}
	buf.WriteUint8(mask)
	switch {
	case v.Type == ua.TypeIDNull:
	case !v.Array:
		if err := writeScalar(buf, v.V); err != nil {
			return nil, err
		}
	default:
		list := reflect.ValueOf(v.V)
		buf.WriteInt32(int32(list.Len()))
		for i := range list.Len() {
			if err := writeScalar(buf, list.Index(i).Interface()); err != nil {
				return nil, err
			}
		}
		if len(v.Dims) > 1 {
			buf.WriteInt32(int32(len(v.Dims)))
			for _, d := range v.Dims {
				buf.WriteInt32(d)
			}
		}
	}
	return buf.Bytes(), buf.Error()
}

// writeText writes a String. An empty one stays empty: gopcua makes it null, which some servers read back as another value.
func writeText(buf *ua.Buffer, s string) { buf.WriteByteString([]byte(s)) }

// writeScalar writes one value of a built-in type.
func writeScalar(buf *ua.Buffer, v any) error {
	switch x := v.(type) {
	case bool:
		buf.WriteBool(x)
	case int8:
		buf.WriteInt8(x)
	case uint8:
		buf.WriteUint8(x)
	case int16:
		buf.WriteInt16(x)
	case uint16:
		buf.WriteUint16(x)
	case int32:
		buf.WriteInt32(x)
	case uint32:
		buf.WriteUint32(x)
	case int64:
		buf.WriteInt64(x)
	case uint64:
		buf.WriteUint64(x)
	case float32:
		buf.WriteFloat32(x)
	case float64:
		buf.WriteFloat64(x)
	case string:
		writeText(buf, x)
	case time.Time:
		buf.WriteTime(x)
	case []byte:
		buf.WriteByteString(x)
	case ua.XMLElement:
		writeText(buf, string(x))
	case ua.StatusCode:
		buf.WriteUint32(uint32(x))
	case *ua.GUID, *ua.NodeID, *ua.ExpandedNodeID, *ua.QualifiedName, *ua.LocalizedText:
		buf.WriteStruct(x)
	case Extension:
		buf.WriteStruct(x.Type)
		buf.WriteUint8(x.Encoding)
		if x.Encoding != ua.ExtensionObjectEmpty {
			buf.WriteByteString(x.Body)
		}
	case Variant:
		b, err := x.Encode()
		if err != nil {
			return err
		}
		buf.Write(b)
	default:
		return fmt.Errorf("%T is not a value that can be written", v)
	}
	return buf.Error()
}
