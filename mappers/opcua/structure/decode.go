package structure

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Limits of what a value may become.
const (
	maxText  = 256 << 10 // bytes of JSON
	maxSteps = 1 << 17   // fields and elements: structures without fields take no bytes
	maxDepth = 32        // structures within structures
)

var (
	errTooLong   = fmt.Errorf("the value has more than %d bytes of text", maxText)
	errTooMuch   = fmt.Errorf("the value has more than %d parts", maxSteps)
	errTooDeep   = fmt.Errorf("the value has more than %d levels of structures", maxDepth)
	errNotLearnt = errors.New("its type has not been learnt")
	errXML       = errors.New("it is encoded in XML")
)

// Append writes a value to dst as JSON. Structures whose types are not known, or that do not match them, are written as base64 with
// the reason; that is the error too, if there is one. dst is returned unchanged if the value is too large.
func (d *Dictionary) Append(dst []byte, v uabin.Variant) ([]byte, error) {
	e := &encoder{d: d, out: dst, start: len(dst)}
	e.variant(v)
	switch {
	case e.fatal != nil:
		return dst, e.fatal
	case len(e.missing) > 0:
		return e.out, &MissingError{Encodings: e.missing, reason: e.reason}
	default:
		return e.out, e.reason
	}
}

// MissingError is returned by Append for a value with structures that have not been learnt yet.
type MissingError struct {
	Encodings []*ua.NodeID // for Learn
	reason    error
}

func (e *MissingError) Error() string { return e.reason.Error() }

// maxMissing limits how many types are learnt at once.
const maxMissing = 64

// encoder writes one value.
type encoder struct {
	d       *Dictionary
	out     []byte
	start   int
	steps   int
	depth   int
	missing []*ua.NodeID
	reason  error // the first thing that could not be decoded
	fatal   error // a limit
}

// step counts a part of the value and tells whether to go on.
func (e *encoder) step() bool {
	switch e.steps++; {
	case e.fatal != nil:
	case e.steps > maxSteps:
		e.fatal = errTooMuch
	case len(e.out)-e.start > maxText:
		e.fatal = errTooLong
	}
	return e.fatal == nil
}

func (e *encoder) text(s string) {
	if len(s) > maxText { // before it is quoted
		e.fatal = errTooLong
		return
	}
	b, err := json.Marshal(s)
	if err != nil {
		b = []byte(`""`)
	}
	e.out = append(e.out, b...)
}

func (e *encoder) variant(v uabin.Variant) {
	if !e.step() {
		return
	}
	switch {
	case v.Type == ua.TypeIDNull || v.V == nil:
		e.out = append(e.out, "null"...)
	case !v.Array:
		e.scalar(v.V)
	case len(v.Dims) > 1:
		at := 0
		e.matrix(v, v.Dims, &at)
	default:
		e.list(v.Len(), func(i int) { e.scalar(v.At(i).V) })
	}
}

func (e *encoder) list(n int, one func(i int)) {
	e.out = append(e.out, '[')
	for i := 0; i < n && e.step(); i++ {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		one(i)
	}
	e.out = append(e.out, ']')
}

// matrix writes an array of several dimensions as arrays of arrays; at counts its elements.
func (e *encoder) matrix(v uabin.Variant, dims []int32, at *int) {
	e.list(int(dims[0]), func(int) {
		if len(dims) > 1 {
			e.matrix(v, dims[1:], at)
		} else if *at < v.Len() {
			e.scalar(v.At(*at).V)
			*at++
		}
	})
}

func (e *encoder) float(f float64, bits int) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		e.out = append(e.out, "null"...)
		return
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	e.out = strconv.AppendFloat(e.out, f, format, -1, bits)
}

// scalar writes a decoded value of a built-in type.
func (e *encoder) scalar(v any) {
	switch x := v.(type) {
	case bool:
		e.out = strconv.AppendBool(e.out, x)
	case int8:
		e.out = strconv.AppendInt(e.out, int64(x), 10)
	case int16:
		e.out = strconv.AppendInt(e.out, int64(x), 10)
	case int32:
		e.out = strconv.AppendInt(e.out, int64(x), 10)
	case int64:
		e.out = strconv.AppendInt(e.out, x, 10)
	case uint8:
		e.out = strconv.AppendUint(e.out, uint64(x), 10)
	case uint16:
		e.out = strconv.AppendUint(e.out, uint64(x), 10)
	case uint32:
		e.out = strconv.AppendUint(e.out, uint64(x), 10)
	case uint64:
		e.out = strconv.AppendUint(e.out, x, 10)
	case float32:
		e.float(float64(x), 32)
	case float64:
		e.float(x, 64)
	case string:
		e.text(x)
	case time.Time:
		e.time(x)
	case []byte:
		e.text(base64.StdEncoding.EncodeToString(x))
	case uabin.Extension:
		e.extension(x)
	case uabin.Variant:
		e.variant(x)
	case uabin.DataValue:
		e.variant(x.Value)
	default:
		e.named(v)
	}
}

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.text("")
		return
	}
	e.text(t.UTC().Format(time.RFC3339Nano))
}

// named writes the built-in types that are shown as text.
func (e *encoder) named(v any) {
	switch x := v.(type) {
	case ua.XMLElement:
		e.text(string(x))
	case ua.StatusCode:
		e.out = strconv.AppendUint(e.out, uint64(x), 10)
	case *ua.GUID:
		e.text(x.String())
	case *ua.NodeID:
		e.text(x.String())
	case *ua.ExpandedNodeID:
		e.text(x.String())
	case *ua.QualifiedName:
		e.text(x.Name)
	case *ua.LocalizedText:
		e.text(x.Text)
	default:
		e.out = append(e.out, "null"...)
	}
}

// extension writes a structure by its type, or as base64 with the reason.
func (e *encoder) extension(x uabin.Extension) {
	if x.Encoding == ua.ExtensionObjectEmpty {
		e.out = append(e.out, "null"...)
		return
	}
	at := len(e.out)
	err := e.structureOf(x)
	if err == nil || e.fatal != nil {
		return
	}
	e.out = append(e.out[:at], `{"typeId":`...)
	name := "i=0"
	if x.Type != nil && x.Type.NodeID != nil {
		name = x.Type.NodeID.String()
	}
	e.text(name)
	if err = fmt.Errorf("structure %s is not decoded: %w", name, err); e.reason == nil {
		e.reason = err
	}
	if base64.StdEncoding.EncodedLen(len(x.Body)) > maxText {
		e.fatal = errTooLong
		return
	}
	e.out = append(e.out, `,"body":`...)
	e.text(base64.StdEncoding.EncodeToString(x.Body))
	e.out = append(e.out, `,"reason":`...)
	e.text(err.Error())
	e.out = append(e.out, '}')
}

func (e *encoder) structureOf(x uabin.Extension) error {
	if x.Encoding != ua.ExtensionObjectBinary {
		return errXML
	}
	if x.Type == nil || x.Type.NodeID == nil {
		return errNotLearnt
	}
	key := x.Type.NodeID.String()
	e.d.mu.RLock()
	dataType, why := e.d.encodings[key], e.d.failed[key]
	e.d.mu.RUnlock()
	if why != nil {
		return why
	}
	if dataType == nil {
		if len(e.missing) < maxMissing {
			e.missing = append(e.missing, x.Type.NodeID)
		}
		return errNotLearnt
	}
	r := uabin.NewReader(x.Body)
	e.value(r, dataType, false)
	switch {
	case r.Err() != nil:
		return r.Err()
	case r.Len() > 0:
		return fmt.Errorf("%d bytes are left over: the value does not match the description of its type", r.Len())
	default:
		return nil
	}
}

// lookup returns a data type, or fails the reader.
func (e *encoder) lookup(r *uabin.Reader, t *ua.NodeID) (definition, bool) {
	if def, ok := wellKnown(t); ok {
		return def, true
	}
	e.d.mu.RLock()
	def, why := e.d.types[t.String()], e.d.failed[t.String()]
	e.d.mu.RUnlock()
	if def != nil {
		return *def, true
	}
	if why == nil {
		why = errNotLearnt
	}
	r.Fail(fmt.Errorf("type %s: %w", t, why))
	return definition{}, false
}

// value reads one value of a data type and writes it.
func (e *encoder) value(r *uabin.Reader, t *ua.NodeID, subtyped bool) {
	def, ok := e.lookup(r, t)
	if !ok || !e.step() {
		return
	}
	if subtyped && def.kind != kindBuiltin && def.kind != kindEnum { // OPC 10000-6 section 5.2.6
		e.scalar(r.Extension())
		return
	}
	switch def.kind {
	case kindEnum:
		n := int64(r.Int32())
		if name := def.names[n]; name != "" {
			e.text(name + "_" + strconv.FormatInt(n, 10))
			return
		}
		e.out = strconv.AppendInt(e.out, n, 10)
	case kindBuiltin, kindAbstract:
		e.scalar(readScalar(r, def.builtin))
	default:
		if e.depth++; e.depth > maxDepth {
			r.Fail(errTooDeep)
		} else {
			e.object(r, &def)
		}
		e.depth--
	}
}

// object reads the fields of a structure.
func (e *encoder) object(r *uabin.Reader, def *definition) {
	fields := e.inherited(def)
	var mask uint32
	if def.kind != kindStructure {
		mask = r.Uint32()
	}
	if def.kind == kindUnion && int64(mask) > int64(len(fields)) {
		r.Fail(fmt.Errorf("union %s has no field %d", def.name, mask))
	}
	e.out = append(e.out, '{')
	first, bit := true, 0
	for i, f := range fields {
		switch {
		case def.kind == kindUnion && int64(mask) != int64(i)+1:
			continue
		case def.kind == kindOptional && f.optional:
			set := bit < 32 && mask&(1<<bit) != 0
			if bit++; !set {
				continue
			}
		}
		if r.Err() != nil || !e.step() {
			return
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		e.text(f.name)
		e.out = append(e.out, ':')
		e.field(r, f, def.subtyped && f.optional)
	}
	e.out = append(e.out, '}')
}

// inherited returns the fields with those of the base in front, unless the description has them already.
func (e *encoder) inherited(def *definition) []field {
	if def.base == nil {
		return def.fields
	}
	e.d.mu.RLock()
	base := e.d.types[def.base.String()]
	e.d.mu.RUnlock()
	if base == nil || len(base.fields) == 0 {
		return def.fields
	}
	if len(def.fields) >= len(base.fields) {
		same := true
		for i, f := range base.fields {
			same = same && def.fields[i].name == f.name
		}
		if same {
			return def.fields
		}
	}
	return append(append([]field(nil), base.fields...), def.fields...)
}

// field reads a scalar, an array or a matrix.
func (e *encoder) field(r *uabin.Reader, f field, subtyped bool) {
	switch {
	case f.rank < 1:
		e.value(r, f.dataType, subtyped)
	case f.rank == 1:
		e.list(r.Array(0), func(int) {
			if r.Err() == nil {
				e.value(r, f.dataType, subtyped)
			}
		})
	default:
		e.fieldMatrix(r, f, subtyped)
	}
}

// fieldMatrix reads an array of several dimensions: their lengths, then the elements (OPC 10000-6 section 5.2.5).
func (e *encoder) fieldMatrix(r *uabin.Reader, f field, subtyped bool) {
	n := r.Array(4)
	if n > maxDepth {
		r.Fail(errTooDeep)
		return
	}
	dims := make([]int32, 0, n)
	for range n {
		dims = append(dims, r.Int32())
	}
	var walk func(dims []int32)
	walk = func(dims []int32) {
		if len(dims) == 0 {
			if r.Err() == nil {
				e.value(r, f.dataType, subtyped)
			}
			return
		}
		e.list(int(dims[0]), func(int) {
			if r.Err() == nil {
				walk(dims[1:])
			}
		})
	}
	if n == 0 {
		e.out = append(e.out, "[]"...)
		return
	}
	walk(dims)
}

// readScalar reads one value of a built-in type.
func readScalar(r *uabin.Reader, t ua.TypeID) any {
	if v, ok := r.Simple(t); ok {
		return v
	}
	return readParts(r, t)
}

func readParts(r *uabin.Reader, t ua.TypeID) any {
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
