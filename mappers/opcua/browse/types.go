package browse

import (
	"context"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

// typeFinder chooses model types for data types. It is used by one goroutine.
type typeFinder struct {
	lister Lister
	known  map[string]device.Type
}

// maxLevels limits how far up the type hierarchy is followed.
const maxLevels = 16

// model chooses the model type for a variable. Arrays and structures are text: the driver delivers them as JSON.
func (t *typeFinder) model(ctx context.Context, dataType *ua.NodeID, rank int32) (device.Type, error) {
	if rank >= 0 || dataType == nil { // -1 is a scalar, -2 and -3 may be one
		return device.TypeString, nil
	}
	at := dataType
	var path []*ua.NodeID
	found := device.TypeString
	for range maxLevels {
		if typ, ok := ofBuiltin(at); ok {
			found = typ
			break
		}
		if typ, ok := t.known[at.String()]; ok {
			found = typ
			break
		}
		path = append(path, at)
		up, err := t.supertype(ctx, at)
		if err != nil {
			return 0, err
		}
		if up == nil {
			break
		}
		at = up
	}
	for _, n := range path {
		t.known[n.String()] = found
	}
	return found, nil
}

// ofBuiltin is the model type of the data types that all others are derived from.
func ofBuiltin(n *ua.NodeID) (device.Type, bool) {
	if n.Namespace() != 0 {
		return 0, false
	}
	switch n.IntID() {
	case id.Boolean:
		return device.TypeBoolean, true
	case id.SByte, id.Byte, id.Int16, id.UInt16, id.Int32, id.UInt32, id.Int64, id.UInt64, id.Integer, id.UInteger, id.Enumeration, id.StatusCode:
		return device.TypeInt, true
	case id.Float:
		return device.TypeFloat, true
	case id.Double, id.Number:
		return device.TypeDouble, true
	case id.ByteString:
		return device.TypeBytes, true
	case id.String, id.DateTime, id.GUID, id.XMLElement, id.NodeID, id.ExpandedNodeID, id.QualifiedName, id.LocalizedText, id.Structure, id.DataValue,
		id.BaseDataType, id.DiagnosticInfo:
		return device.TypeString, true
	default:
		return 0, false
	}
}

// supertype asks what a data type is derived from; nil if the server does not say.
func (t *typeFinder) supertype(ctx context.Context, n *ua.NodeID) (*ua.NodeID, error) {
	got, err := t.lister.Ask.Ask(ctx, &ua.BrowseRequest{
		View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, RequestedMaxReferencesPerNode: 1,
		NodesToBrowse: []*ua.BrowseDescription{{NodeID: n, BrowseDirection: ua.BrowseDirectionInverse, ReferenceTypeID: ua.NewNumericNodeID(0, id.HasSubtype), IncludeSubtypes: true}},
	})
	if err != nil {
		return nil, fmt.Errorf("look up data type %s: %w", t.lister.text(n), err)
	}
	res, ok := got.(*ua.BrowseResponse)
	if !ok || len(res.Results) != 1 {
		return nil, fmt.Errorf("look up data type %s: %w", t.lister.text(n), errAnswer)
	}
	refs := res.Results[0].References
	if len(refs) == 0 || refs[0].NodeID == nil || refs[0].NodeID.ServerIndex != 0 {
		return nil, nil
	}
	return refs[0].NodeID.NodeID, nil
}
