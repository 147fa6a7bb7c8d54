package structure

import (
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Limits of what a server may describe.
const (
	maxTypes  = 512 // types of one server
	maxFields = 512 // fields of a structure, or names of an enumeration
	maxName   = 128 // bytes of a name
)

// kind is what a data type is on the wire.
type kind uint8

const (
	kindBuiltin   kind = iota // one of the built-in types, or derived from one
	kindEnum                  // Int32 with names
	kindStructure             // its fields, one after the other
	kindOptional              // a mask, then the fields whose bit is set
	kindUnion                 // a switch, then the one field
	kindAbstract              // a structure of any type: an ExtensionObject
)

// definition is a data type. It is immutable once it is in the dictionary.
type definition struct {
	name     string
	kind     kind
	builtin  ua.TypeID
	names    map[int64]string // of an enumeration
	fields   []field
	base     *ua.NodeID // of a structure
	subtyped bool       // fields that are marked optional may hold subtypes (OPC 10000-3 section 8.49)
}

// field is one field of a structure.
type field struct {
	name     string
	dataType *ua.NodeID
	rank     int32 // -1: scalar, 1: array, 2 and more: matrix
	optional bool
}

var errNotDescribed = errors.New("the server does not describe this type (it has no DataTypeDefinition, which came with OPC UA 1.04)")

// parseDefinition reads the value of a DataTypeDefinition attribute.
func parseDefinition(v uabin.DataValue) (*definition, error) {
	x, ok := v.Value.V.(uabin.Extension)
	if v.Status != ua.StatusOK || !ok || x.Encoding != ua.ExtensionObjectBinary || x.Type == nil || x.Type.NodeID == nil || x.Type.NodeID.Namespace() != 0 {
		return nil, errNotDescribed
	}
	r := uabin.NewReader(x.Body)
	var d *definition
	switch x.Type.NodeID.IntID() {
	case id.StructureDefinition_Encoding_DefaultBinary:
		d = parseStructure(r)
	case id.EnumDefinition_Encoding_DefaultBinary:
		d = parseEnum(r)
	default:
		return nil, errNotDescribed
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("the server's description of this type cannot be read: %w", err)
	}
	return d, nil
}

var errTooMany = fmt.Errorf("it has more than %d fields", maxFields)

// parseStructure reads a StructureDefinition.
func parseStructure(r *uabin.Reader) *definition {
	r.NodeID() // the default encoding: it is known by which encoding this was found
	d := &definition{base: r.NodeID(), kind: kindStructure}
	switch ua.StructureType(r.Int32()) {
	case 0:
	case 1:
		d.kind = kindOptional
	case 2:
		d.kind = kindUnion
	case 3:
		d.subtyped = true
	case 4:
		d.kind, d.subtyped = kindUnion, true
	default:
		r.Fail(errors.New("it is a structure of an unknown kind"))
	}
	const least = 4 + 1 + 2 + 4 + 4 + 4 + 1 // bytes of a field
	n := r.Array(least)
	if n > maxFields {
		r.Fail(errTooMany)
		return d
	}
	d.fields = make([]field, 0, n)
	for range n {
		f := field{name: clip(r.String())}
		r.LocalizedText()
		f.dataType, f.rank = r.NodeID(), r.Int32()
		for range r.Array(4) {
			r.Uint32() // lengths of dimensions: the value says its own
		}
		r.Uint32()
		f.optional = r.Bool()
		if r.Err() != nil {
			return d
		}
		d.fields = append(d.fields, f)
	}
	return d
}

// parseEnum reads an EnumDefinition.
func parseEnum(r *uabin.Reader) *definition {
	d := &definition{kind: kindEnum, builtin: ua.TypeIDInt32}
	const least = 8 + 1 + 1 + 4
	n := r.Array(least)
	if n > maxFields {
		r.Fail(errTooMany)
		return d
	}
	d.names = make(map[int64]string, n)
	for range n {
		value := r.Int64()
		display := r.LocalizedText().Text
		r.LocalizedText()
		name := clip(r.String())
		if name == "" {
			name = clip(display)
		}
		d.names[value] = name
	}
	return d
}

func clip(s string) string {
	if len(s) > maxName {
		return s[:maxName]
	}
	return s
}
