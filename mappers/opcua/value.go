package opcua

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// value makes of what a server sent what the model wants.
func (c *client) value(ctx context.Context, p *point, d uabin.DataValue, now time.Time) device.Value {
	var v device.Value
	q := quality(d.Status)
	if d.Value.Type == ua.TypeIDNull {
		if q == device.Good {
			v = device.BadValue("the node has no value", now)
		} else {
			v = device.BadValue(statusText(d.Status), now)
		}
	} else {
		var err error
		if v, err = c.datum(ctx, p, d.Value); err == nil {
			v, err = v.Convert(p.typ)
		}
		if err != nil {
			v = device.BadValue(err.Error(), now)
		} else if q != device.Good {
			v = v.Doubt(q, statusText(d.Status))
		}
	}
	if overflowed(d.Status) && v.Quality == device.Good {
		v = v.Doubt(device.Uncertain, "the server dropped values before this one: its queue was full; a larger queueSize keeps more")
	}
	v.Source = d.Source
	if v.Source.IsZero() {
		v.Source = d.Server
	}
	return v.At(now)
}

// datum is a variant as a model's value. What is no scalar of the model becomes JSON.
func (c *client) datum(ctx context.Context, p *point, v uabin.Variant) (device.Value, error) {
	if v.Array && v.Len() == 1 && p.extra().single {
		v = v.At(0)
	}
	if b, ok := v.V.([]uint8); ok && v.Array && p.typ == device.TypeBytes {
		return device.Bytes(b), nil
	}
	if !v.Array {
		if out, ok := scalar(v.V, p.typ); ok {
			return out, nil
		}
		if inner, ok := v.V.(uabin.DataValue); ok {
			return c.datum(ctx, p, inner.Value)
		}
		if inner, ok := v.V.(uabin.Variant); ok {
			return c.datum(ctx, p, inner)
		}
	}
	if hasExtension(v) {
		text, err := c.structures.JSON(ctx, v)
		if text != "" && err != nil { // part of it is base64
			return device.String(text).Doubt(device.Uncertain, err.Error()), nil
		}
		return device.String(text), err
	}
	text, err := json.Marshal(plain(v))
	if err != nil {
		return device.Value{}, fmt.Errorf("the value cannot be shown as JSON: %w", err)
	}
	return device.String(string(text)), nil
}

// scalar converts the values that the model has a type for.
func scalar(v any, want device.Type) (device.Value, bool) {
	switch x := v.(type) {
	case bool:
		return device.Bool(x), true
	case int8:
		return device.Int(int64(x)), true
	case uint8:
		return device.Uint(uint64(x)), true
	case int16:
		return device.Int(int64(x)), true
	case uint16:
		return device.Uint(uint64(x)), true
	case int32:
		return device.Int(int64(x)), true
	case uint32:
		return device.Uint(uint64(x)), true
	case int64:
		return device.Int(x), true
	case uint64:
		return device.Uint(x), true
	case float32:
		return device.Float32(x), true
	case float64:
		return device.Float(x), true
	case string:
		return device.String(x), true
	case []byte:
		return device.Bytes(x), true
	case time.Time:
		switch want {
		case device.TypeInt:
			return device.Int(x.UnixMilli()), true
		case device.TypeDouble, device.TypeFloat:
			return device.Float(float64(x.UnixMilli()) / 1000), true
		}
		return device.String(timeText(x)), true
	case ua.StatusCode:
		if want.Numeric() {
			return device.Uint(uint64(x)), true
		}
		return device.String(statusText(x)), true
	}
	text, ok := textOf(v)
	return device.String(text), ok
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// textOf is the text of the built-in types that have one.
func textOf(v any) (string, bool) {
	switch x := v.(type) {
	case *ua.GUID:
		return x.String(), true
	case ua.XMLElement:
		return string(x), true
	case *ua.NodeID:
		return x.String(), true
	case *ua.ExpandedNodeID:
		if x.NamespaceURI != "" {
			return "nsu=" + x.NamespaceURI + ";" + inNamespace(x.NodeID, 0).String(), true
		}
		return inNamespace(x.NodeID, x.NodeID.Namespace()).String(), true
	case *ua.QualifiedName:
		if x.NamespaceIndex == 0 {
			return x.Name, true
		}
		return fmt.Sprintf("%d:%s", x.NamespaceIndex, x.Name), true
	case *ua.LocalizedText:
		return x.Text, true
	default:
		return "", false
	}
}

func hasExtension(v uabin.Variant) bool {
	switch x := v.V.(type) {
	case uabin.Extension, []uabin.Extension:
		return true
	case uabin.DataValue:
		return hasExtension(x.Value)
	case uabin.Variant:
		return hasExtension(x)
	case []uabin.Variant:
		for _, e := range x {
			if hasExtension(e) {
				return true
			}
		}
	}
	return false
}

// plain is a variant without structures, as encoding/json takes it: nested lists for arrays, null for what JSON has not.
func plain(v uabin.Variant) any {
	if !v.Array {
		return plainScalar(v.V)
	}
	flat := make([]any, v.Len())
	for i := range flat {
		flat[i] = plainScalar(v.At(i).V)
	}
	return nest(flat, v.Dims)
}

// nest makes lists of lists; the last dimension runs fastest.
func nest(flat []any, dims []int32) any {
	if len(dims) < 2 {
		return flat
	}
	out := make([]any, dims[0])
	for i := range out {
		n := len(flat) / int(dims[0])
		out[i] = nest(flat[i*n:(i+1)*n], dims[1:])
	}
	return out
}

func plainScalar(v any) any {
	switch x := v.(type) {
	case float32:
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil
		}
		return x
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
		return x
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case time.Time:
		return timeText(x)
	case ua.StatusCode:
		return uint32(x)
	case uabin.Variant:
		return plain(x)
	case uabin.DataValue:
		return plain(x.Value)
	case uabin.Extension, *ua.DiagnosticInfo:
		return nil
	}
	if text, ok := textOf(v); ok {
		return text
	}
	return v
}
