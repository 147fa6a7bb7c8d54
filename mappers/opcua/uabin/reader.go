package uabin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/gopcua/opcua/ua"
)

// ErrTruncated means that the input ends within a value, or claims more elements than it has bytes for.
var ErrTruncated = errors.New("message is truncated")

// maxDepth limits nesting (Part 6, section 5.1.5 asks for 100 levels at least of decoders that limit it; none of the field's
// devices nests more than a few).
const maxDepth = 100

// Reader reads values one after the other. After the first error every read returns the zero value.
type Reader struct {
	b      []byte
	pos    int
	depth  int
	budget int // how many composite elements there were
	err    error
}

// maxElements limits how many structures, variants and data values a message may have: in memory they take many times what they
// take on the wire. No request of ours asks for more.
const maxElements = 1 << 16

// spend counts n composite elements.
func (r *Reader) spend(n int) bool {
	if r.budget += n; r.budget > maxElements {
		r.Fail(fmt.Errorf("message has more than %d structures", maxElements))
		return false
	}
	return true
}

// NewReader reads b, which is not changed and must not change.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.b) - r.pos }

// Fail records an error of the caller's, unless there is one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// next returns the next n bytes of the input, nil after an error.
func (r *Reader) next(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b)-r.pos {
		r.err = ErrTruncated
		return nil
	}
	b := r.b[r.pos : r.pos+n]
	r.pos += n
	return b
}

// Uint8 reads a Byte.
func (r *Reader) Uint8() uint8 {
	if b := r.next(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads a UInt16.
func (r *Reader) Uint16() uint16 {
	if b := r.next(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads a UInt32.
func (r *Reader) Uint32() uint32 {
	if b := r.next(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a UInt64.
func (r *Reader) Uint64() uint64 {
	if b := r.next(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Bool reads a Boolean: anything but 0 is true.
func (r *Reader) Bool() bool { return r.Uint8() != 0 }

// Int8 reads an SByte.
func (r *Reader) Int8() int8 { return int8(r.Uint8()) }

// Int16 reads an Int16.
func (r *Reader) Int16() int16 { return int16(r.Uint16()) }

// Int32 reads an Int32.
func (r *Reader) Int32() int32 { return int32(r.Uint32()) }

// Int64 reads an Int64.
func (r *Reader) Int64() int64 { return int64(r.Uint64()) }

// Float32 reads a Float.
func (r *Reader) Float32() float32 { return math.Float32frombits(r.Uint32()) }

// Float64 reads a Double.
func (r *Reader) Float64() float64 { return math.Float64frombits(r.Uint64()) }

// StatusCode reads a StatusCode.
func (r *Reader) StatusCode() ua.StatusCode { return ua.StatusCode(r.Uint32()) }

// Array reads an array's length and checks it against what is left, when one element takes at least min bytes. A null array
// has no elements.
func (r *Reader) Array(min int) int {
	n := r.Int32()
	if r.err != nil || n <= 0 {
		return 0
	}
	if int64(n)*int64(max(min, 1)) > int64(r.Len()) {
		r.err = ErrTruncated
		return 0
	}
	return int(n)
}

// raw reads a length and as many bytes; nil for a null string.
func (r *Reader) raw() []byte {
	n := r.Int32()
	if r.err != nil || n < 0 {
		return nil
	}
	return r.next(int(n))
}

// String reads a String; a null string is an empty one. What is not UTF-8 is replaced.
func (r *Reader) String() string { return strings.ToValidUTF8(string(r.raw()), "\uFFFD") }

// Bytes reads a ByteString into memory of its own; nil for a null one.
func (r *Reader) Bytes() []byte {
	b := r.raw()
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// epoch1601 is 1601-01-01 in 100 ns before 1970-01-01.
const epoch1601 = 116444736000000000

// Time reads a DateTime (Part 6, section 5.2.2.5). 0 and the greatest value mean no time.
func (r *Reader) Time() time.Time {
	ticks := r.Int64()
	if ticks <= 0 || ticks == math.MaxInt64 {
		return time.Time{}
	}
	ticks -= epoch1601
	return time.Unix(ticks/1e7, ticks%1e7*100).UTC()
}

// GUID reads a Guid.
func (r *Reader) GUID() *ua.GUID {
	g := &ua.GUID{Data1: r.Uint32(), Data2: r.Uint16(), Data3: r.Uint16()}
	g.Data4 = append(make([]byte, 0, 8), r.next(8)...)
	if len(g.Data4) != 8 {
		g.Data4 = make([]byte, 8)
	}
	return g
}

// NodeID reads a NodeId.
func (r *Reader) NodeID() *ua.NodeID {
	id, _ := r.nodeID()
	return id
}

// nodeID reads a NodeId, and returns the flags of an ExpandedNodeId with it.
func (r *Reader) nodeID() (id *ua.NodeID, flags byte) {
	mask := r.Uint8()
	switch ua.NodeIDType(mask & 0x3f) {
	case ua.NodeIDTypeTwoByte:
		id = ua.NewTwoByteNodeID(r.Uint8())
	case ua.NodeIDTypeFourByte:
		ns := r.Uint8()
		id = ua.NewFourByteNodeID(ns, r.Uint16())
	case ua.NodeIDTypeNumeric:
		ns := r.Uint16()
		id = ua.NewNumericNodeID(ns, r.Uint32())
	case ua.NodeIDTypeString:
		ns := r.Uint16()
		id = ua.NewStringNodeID(ns, string(r.raw()))
	case ua.NodeIDTypeGUID:
		ns := r.Uint16()
		id = ua.NewGUIDNodeID(ns, r.GUID().String())
	case ua.NodeIDTypeByteString:
		ns := r.Uint16()
		id = ua.NewByteStringNodeID(ns, r.Bytes())
	default:
		r.Fail(fmt.Errorf("node id of unknown kind %#x", mask))
	}
	if r.err != nil || id == nil {
		return ua.NewTwoByteNodeID(0), 0
	}
	return id, mask & 0xc0
}

// ExpandedNodeID reads an ExpandedNodeId.
func (r *Reader) ExpandedNodeID() *ua.ExpandedNodeID {
	id, flags := r.nodeID()
	var uri string
	var server uint32
	if flags&0x80 != 0 {
		uri = r.String()
	}
	if flags&0x40 != 0 {
		server = r.Uint32()
	}
	return ua.NewExpandedNodeID(id, uri, server)
}

// QualifiedName reads a QualifiedName.
func (r *Reader) QualifiedName() *ua.QualifiedName {
	q := &ua.QualifiedName{NamespaceIndex: r.Uint16()}
	q.Name = r.String()
	return q
}

// LocalizedText reads a LocalizedText.
func (r *Reader) LocalizedText() *ua.LocalizedText {
	mask := r.Uint8()
	l := &ua.LocalizedText{EncodingMask: mask & (ua.LocalizedTextLocale | ua.LocalizedTextText)}
	if mask&ua.LocalizedTextLocale != 0 {
		l.Locale = r.String()
	}
	if mask&ua.LocalizedTextText != 0 {
		l.Text = r.String()
	}
	return l
}

// deeper enters one level of nesting, if there may be one more; call the function it returns to leave it.
func (r *Reader) deeper() bool {
	if r.depth++; r.depth > maxDepth {
		r.Fail(errors.New("message is nested too deeply"))
		return false
	}
	return true
}

// DiagnosticInfo reads a DiagnosticInfo. Its inner ones are skipped.
func (r *Reader) DiagnosticInfo() *ua.DiagnosticInfo {
	d := &ua.DiagnosticInfo{}
	mask := r.Uint8()
	for _, f := range []struct {
		bit byte
		to  *int32
	}{{ua.DiagnosticInfoSymbolicID, &d.SymbolicID}, {ua.DiagnosticInfoNamespaceURI, &d.NamespaceURI}, {ua.DiagnosticInfoLocale, &d.Locale}, {ua.DiagnosticInfoLocalizedText, &d.LocalizedText}} {
		if mask&f.bit != 0 {
			*f.to = r.Int32()
		}
	}
	if mask&ua.DiagnosticInfoAdditionalInfo != 0 {
		d.AdditionalInfo = r.String()
	}
	if mask&ua.DiagnosticInfoInnerStatusCode != 0 {
		d.InnerStatusCode = r.StatusCode()
	}
	if mask&ua.DiagnosticInfoInnerDiagnosticInfo != 0 {
		if r.deeper() {
			r.DiagnosticInfo()
		}
		r.depth--
	}
	d.EncodingMask = mask &^ ua.DiagnosticInfoInnerDiagnosticInfo
	return d
}

// Extension is an ExtensionObject whose body has not been decoded.
type Extension struct {
	Type     *ua.ExpandedNodeID // of the encoding, not of the data type
	Encoding byte               // 0: no body, 1: binary, 2: XML
	Body     []byte
}

// Extension reads an ExtensionObject.
func (r *Reader) Extension() Extension {
	x := Extension{Type: r.ExpandedNodeID()}
	x.Encoding = r.Uint8()
	if x.Encoding != ua.ExtensionObjectEmpty {
		x.Body = r.Bytes()
	}
	return x
}
