package browse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Limits of what a server may answer.
const (
	maxName  = 256  // bytes of a name
	maxID    = 4096 // bytes of a node id in text
	maxLimit = 20000
	pageSize = 1000 // references in one answer
	maxIdle  = 8    // answers in a row without anything new: a server may go on like that for ever
)

// Asker sends a request within a session and returns the response as uabin.DecodeResponse does.
type Asker interface {
	Ask(ctx context.Context, req ua.Request) (any, error)
}

// Lister lists the nodes of one server.
type Lister struct {
	Ask        Asker
	Namespaces []string // the server's namespace array
	MaxRead    int      // attributes in one request; 0: as many as servers usually allow
}

var errAnswer = errors.New("the server's answer does not fit the question")

// Children lists the objects, variables and methods below a node, at most limit of them, in the server's order; nil means the
// Objects folder.
func (l Lister) Children(ctx context.Context, from *ua.NodeID, limit int) ([]device.BrowseEntry, error) {
	if from == nil {
		from = ua.NewNumericNodeID(0, id.ObjectsFolder)
	}
	limit = min(max(limit, 1), maxLimit)
	refs, err := l.references(ctx, from, limit)
	if err != nil {
		return nil, fmt.Errorf("browse %s: %w", l.text(from), err)
	}
	return l.entries(ctx, from, refs)
}

// reference is one child.
type reference struct {
	node  *ua.NodeID
	text  string
	name  string
	class ua.NodeClass
}

// references follows the hierarchical references of a node, page by page.
func (l Lister) references(ctx context.Context, from *ua.NodeID, limit int) ([]reference, error) {
	got, err := l.Ask.Ask(ctx, &ua.BrowseRequest{
		View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, RequestedMaxReferencesPerNode: uint32(min(limit, pageSize)),
		NodesToBrowse: []*ua.BrowseDescription{{
			NodeID: from, BrowseDirection: ua.BrowseDirectionForward, ReferenceTypeID: ua.NewNumericNodeID(0, id.HierarchicalReferences), IncludeSubtypes: true,
			NodeClassMask: uint32(ua.NodeClassObject | ua.NodeClassVariable | ua.NodeClassMethod), ResultMask: uint32(ua.BrowseResultMaskAll),
		}},
	})
	if err != nil {
		return nil, err
	}
	res, ok := got.(*ua.BrowseResponse)
	if !ok {
		return nil, errAnswer
	}
	results := res.Results
	var out []reference
	seen := make(map[string]bool)
	for idle := 0; ; {
		if len(results) != 1 {
			return nil, errAnswer
		}
		page := results[0]
		if page.StatusCode != ua.StatusOK {
			return nil, page.StatusCode
		}
		before := len(seen)
		for _, r := range page.References {
			if ref, ok := l.reference(r); ok && !seen[ref.text] && len(out) < limit {
				seen[ref.text] = true
				out = append(out, ref)
			}
		}
		if len(page.ContinuationPoint) == 0 {
			return out, nil
		}
		if idle++; len(seen) > before {
			idle = 0
		}
		if len(out) >= limit || idle > maxIdle {
			return out, l.release(ctx, page.ContinuationPoint)
		}
		if results, err = l.next(ctx, page.ContinuationPoint, false); err != nil {
			return nil, err
		}
	}
}

func (l Lister) next(ctx context.Context, point []byte, release bool) ([]*ua.BrowseResult, error) {
	got, err := l.Ask.Ask(ctx, &ua.BrowseNextRequest{ReleaseContinuationPoints: release, ContinuationPoints: [][]byte{point}})
	if err != nil {
		return nil, err
	}
	res, ok := got.(*ua.BrowseNextResponse)
	if !ok {
		return nil, errAnswer
	}
	return res.Results, nil
}

// release gives a continuation point back: servers have few.
func (l Lister) release(ctx context.Context, point []byte) error {
	_, err := l.next(ctx, point, true)
	return err
}

// reference judges one reference; it is not ok if it cannot be used.
func (l Lister) reference(r *ua.ReferenceDescription) (reference, bool) {
	if r == nil || r.NodeID == nil || r.NodeID.NodeID == nil || r.NodeID.ServerIndex != 0 {
		return reference{}, false
	}
	n := r.NodeID.NodeID
	if r.NodeID.NamespaceURI != "" {
		return reference{}, false // it is not in the server's namespace array
	}
	out := reference{node: n, text: l.text(n), class: r.NodeClass}
	if r.DisplayName != nil {
		out.name = r.DisplayName.Text
	}
	if out.name == "" && r.BrowseName != nil {
		out.name = r.BrowseName.Name
	}
	if len(out.name) > maxName {
		out.name = strings.ToValidUTF8(out.name[:maxName], "")
	}
	return out, len(out.text) <= maxID && utf8.ValidString(out.text)
}

// text writes a node id as configData wants it (OPC 10000-6 section 5.3.1.10).
func (l Lister) text(n *ua.NodeID) string {
	plain := n.String()
	ns := int(n.Namespace())
	if ns == 0 || ns >= len(l.Namespaces) || l.Namespaces[ns] == "" {
		return plain
	}
	_, ident, found := strings.Cut(plain, ";")
	if !found {
		return plain
	}
	return "nsu=" + strings.NewReplacer("%", "%25", ";", "%3B").Replace(l.Namespaces[ns]) + ";" + ident
}

// entries reads what the model needs to know of the variables.
func (l Lister) entries(ctx context.Context, from *ua.NodeID, refs []reference) ([]device.BrowseEntry, error) {
	out := make([]device.BrowseEntry, len(refs))
	var variables []int
	for i, r := range refs {
		out[i] = device.BrowseEntry{Node: r.text, Name: r.name}
		switch r.class {
		case ua.NodeClassVariable:
			variables = append(variables, i)
		case ua.NodeClassMethod:
			out[i].Visitor = map[string]any{"nodeID": l.text(from), "methodID": r.text}
			out[i].Type = device.TypeString
		}
	}
	if len(variables) == 0 {
		return out, nil
	}
	var ask []*ua.ReadValueID
	for _, i := range variables {
		for _, a := range [...]ua.AttributeID{ua.AttributeIDDataType, ua.AttributeIDValueRank, ua.AttributeIDUserAccessLevel} {
			ask = append(ask, &ua.ReadValueID{NodeID: refs[i].node, AttributeID: a, DataEncoding: &ua.QualifiedName{}})
		}
	}
	values, err := l.read(ctx, ask)
	if err != nil {
		return nil, err
	}
	types := typeFinder{lister: l, known: make(map[string]device.Type)}
	arrays := 0
	for k, i := range variables {
		dataType := dataTypeOf(values[3*k].Value)
		rank, ok := values[3*k+1].Value.V.(int32)
		if !ok {
			rank = -1
		}
		if rank < -1 && arrays < maxValues {
			arrays++
			rank = l.rank(ctx, refs[i].node)
		}
		access, _ := values[3*k+2].Value.V.(uint8)
		if out[i].Type, err = types.model(ctx, dataType, rank); err != nil {
			return nil, err
		}
		out[i].Writable = access&byte(ua.AccessLevelTypeCurrentWrite) != 0
		out[i].Visitor = map[string]any{"nodeID": refs[i].text}
	}
	return out, nil
}

// dataTypeOf reads the attribute DataType. It is a NodeId; some servers send an ExpandedNodeId, which says the same.
func dataTypeOf(v uabin.Variant) *ua.NodeID {
	switch n := v.V.(type) {
	case *ua.NodeID:
		return n
	case *ua.ExpandedNodeID:
		if n.ServerIndex == 0 && n.NamespaceURI == "" {
			return n.NodeID
		}
	}
	return nil
}

// maxValues limits how many values are looked at, because their nodes may be scalars or arrays.
const maxValues = 200

// rank looks at the value of a node that may be a scalar or an array: 1 for an array, -1 for a scalar and if it cannot be read.
func (l Lister) rank(ctx context.Context, n *ua.NodeID) int32 {
	v, err := l.read(ctx, []*ua.ReadValueID{{NodeID: n, AttributeID: ua.AttributeIDValue, DataEncoding: &ua.QualifiedName{}}})
	if err == nil && v[0].Value.Array {
		return 1
	}
	return -1
}

// usualRead is what servers allow in one request if they do not say.
const usualRead = 150

// read reads attributes in as many requests as the server's limits make it.
func (l Lister) read(ctx context.Context, ask []*ua.ReadValueID) ([]uabin.DataValue, error) {
	size := l.MaxRead
	if size <= 0 || size > pageSize {
		size = usualRead
	}
	out := make([]uabin.DataValue, 0, len(ask))
	for len(ask) > 0 {
		batch := ask[:min(size, len(ask))]
		got, err := l.Ask.Ask(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: batch})
		if errors.Is(err, ua.StatusBadTooManyOperations) && size > 1 {
			size /= 2
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read what the nodes are: %w", err)
		}
		res, ok := got.(*uabin.ReadResponse)
		if !ok || len(res.Results) != len(batch) {
			return nil, fmt.Errorf("read what the nodes are: %w", errAnswer)
		}
		out = append(out, res.Results...)
		ask = ask[len(batch):]
	}
	return out, nil
}
