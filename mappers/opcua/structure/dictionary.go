package structure

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Asker sends a request within a session and returns the response as uabin.DecodeResponse does.
type Asker interface {
	Ask(ctx context.Context, req ua.Request) (any, error)
}

// Dictionary knows the types of one server as far as they have been learnt. It needs no closing.
type Dictionary struct {
	ask   Asker
	learn sync.Mutex // one learns at a time; held during I/O

	mu        sync.RWMutex
	encodings map[string]*ua.NodeID  // encoding → data type; nil: none is known
	types     map[string]*definition // data type → definition
	failed    map[string]error       // data type or encoding → why it cannot be decoded
}

// New returns a dictionary that knows the built-in types only.
func New(ask Asker) *Dictionary {
	return &Dictionary{ask: ask, encodings: make(map[string]*ua.NodeID), types: make(map[string]*definition), failed: make(map[string]error)}
}

// Knows tells that all that can be learnt of a structure with this encoding has been; Append then says the rest.
func (d *Dictionary) Knows(encoding *ua.NodeID) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	key := encoding.String()
	_, ok := d.encodings[key]
	return ok || d.failed[key] != nil
}

// Learn asks the server for the types of structures with these encodings, and all types within them. What cannot be learnt is no
// error: Append says why. An error means that the server could not be asked, and that it may be tried again.
func (d *Dictionary) Learn(ctx context.Context, encodings ...*ua.NodeID) error {
	d.learn.Lock()
	defer d.learn.Unlock()
	var todo []*ua.NodeID
	seen := make(map[string]bool)
	for _, e := range encodings {
		if e != nil && !seen[e.String()] && !d.Knows(e) {
			seen[e.String()] = true
			todo = append(todo, e)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	roots, err := d.above(ctx, todo, id.HasEncoding)
	if err != nil {
		return err
	}
	var pending []*ua.NodeID
	for i, e := range todo {
		if roots[i] == nil {
			d.fail(e, errors.New("the server does not say of which type this encoding is"))
		} else {
			pending = append(pending, roots[i])
		}
	}
	if err := d.closure(ctx, pending); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range todo {
		if roots[i] != nil {
			d.encodings[e.String()] = roots[i]
		}
	}
	return nil
}

func (d *Dictionary) fail(t *ua.NodeID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.failed) < maxTypes {
		d.failed[t.String()] = err
	}
}

// decided tells that a data type needs no more asking.
func (d *Dictionary) decided(t *ua.NodeID) bool {
	if _, ok := wellKnown(t); ok {
		return true
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.types[t.String()] != nil || d.failed[t.String()] != nil
}

// closure learns data types and those of their fields and bases, round by round.
func (d *Dictionary) closure(ctx context.Context, pending []*ua.NodeID) error {
	for len(pending) > 0 {
		var round []*ua.NodeID
		seen := make(map[string]bool)
		for _, t := range pending {
			if !seen[t.String()] && !d.decided(t) {
				seen[t.String()] = true
				round = append(round, t)
			}
		}
		d.mu.RLock()
		known := len(d.types) + len(d.failed)
		d.mu.RUnlock()
		if known+len(round) > maxTypes {
			for _, t := range round {
				d.fail(t, fmt.Errorf("the server uses more than %d types", maxTypes))
			}
			return nil
		}
		next, err := d.define(ctx, round)
		if err != nil {
			return err
		}
		pending = next
	}
	return nil
}

// define asks for the definitions of data types, and returns the types that those need.
func (d *Dictionary) define(ctx context.Context, types []*ua.NodeID) (next []*ua.NodeID, err error) {
	for len(types) > 0 {
		batch := types[:min(len(types), batchSize)]
		types = types[len(batch):]
		values, err := d.read(ctx, batch)
		if err != nil {
			return nil, err
		}
		for i, t := range batch {
			def, err := parseDefinition(values[2*i])
			if err != nil {
				if def, err = d.derived(ctx, t, err); err != nil && ctx.Err() != nil {
					return nil, err
				}
			}
			if err != nil {
				d.fail(t, err)
				continue
			}
			if q, ok := values[2*i+1].Value.V.(*ua.QualifiedName); ok {
				def.name = clip(q.Name)
			}
			d.mu.Lock()
			d.types[t.String()] = def
			d.mu.Unlock()
			for _, f := range def.fields {
				next = append(next, f.dataType)
			}
			if def.base != nil && len(def.fields) > 0 {
				next = append(next, def.base)
			}
		}
	}
	return next, nil
}

// maxLevels limits how far up the type hierarchy is followed.
const maxLevels = 16

// derived finds the built-in type that a data type without a definition of its own is derived from.
func (d *Dictionary) derived(ctx context.Context, t *ua.NodeID, cause error) (*definition, error) {
	at := t
	for range maxLevels {
		up, err := d.above(ctx, []*ua.NodeID{at}, id.HasSubtype)
		if err != nil {
			return nil, err
		}
		if up[0] == nil {
			return nil, cause
		}
		if def, ok := wellKnown(up[0]); ok {
			if def.kind == kindAbstract || def.builtin == ua.TypeIDVariant { // a structure or nothing that is known
				return nil, cause
			}
			return &definition{kind: def.kind, builtin: def.builtin}, nil
		}
		d.mu.RLock()
		known := d.types[up[0].String()]
		d.mu.RUnlock()
		if known != nil && (known.kind == kindBuiltin || known.kind == kindEnum) {
			return &definition{kind: known.kind, builtin: known.builtin, names: known.names}, nil
		}
		at = up[0]
	}
	return nil, cause
}

// wellKnown are the types of namespace 0 that need no asking.
func wellKnown(t *ua.NodeID) (definition, bool) {
	if t.Namespace() != 0 || t.StringID() != "" && t.IntID() == 0 {
		return definition{}, false
	}
	switch n := t.IntID(); {
	case n == id.Structure, n == id.Union:
		return definition{kind: kindAbstract, builtin: ua.TypeIDExtensionObject}, true
	case n == id.BaseDataType, n >= id.Number && n <= id.UInteger:
		return definition{builtin: ua.TypeIDVariant}, true
	case n == id.Enumeration:
		return definition{kind: kindEnum, builtin: ua.TypeIDInt32}, true
	case n > 0 && n <= id.DiagnosticInfo:
		return definition{builtin: ua.TypeID(n)}, true
	default:
		return definition{}, false
	}
}

// batchSize suits the operation limits of any server.
const batchSize = 10

// above follows one inverse reference from each node; nil where there is none.
func (d *Dictionary) above(ctx context.Context, nodes []*ua.NodeID, reference uint32) ([]*ua.NodeID, error) {
	var out []*ua.NodeID
	for len(nodes) > 0 {
		batch := nodes[:min(len(nodes), batchSize)]
		nodes = nodes[len(batch):]
		req := &ua.BrowseRequest{View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, RequestedMaxReferencesPerNode: 1}
		for _, n := range batch {
			req.NodesToBrowse = append(req.NodesToBrowse, &ua.BrowseDescription{
				NodeID: n, BrowseDirection: ua.BrowseDirectionInverse, ReferenceTypeID: ua.NewNumericNodeID(0, reference), IncludeSubtypes: true,
			})
		}
		got, err := d.ask.Ask(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("browse for types: %w", err)
		}
		res, ok := got.(*ua.BrowseResponse)
		if !ok || len(res.Results) != len(batch) {
			return nil, errors.New("browse for types: the server's answer does not fit the question")
		}
		for _, r := range res.Results {
			var up *ua.NodeID
			if len(r.References) > 0 && r.References[0].NodeID != nil && r.References[0].NodeID.ServerIndex == 0 {
				up = r.References[0].NodeID.NodeID
			}
			out = append(out, up)
		}
	}
	return out, nil
}

// read reads definition and name of data types, two values for each.
func (d *Dictionary) read(ctx context.Context, types []*ua.NodeID) ([]uabin.DataValue, error) {
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither}
	for _, t := range types {
		req.NodesToRead = append(req.NodesToRead,
			&ua.ReadValueID{NodeID: t, AttributeID: ua.AttributeIDDataTypeDefinition, DataEncoding: &ua.QualifiedName{}},
			&ua.ReadValueID{NodeID: t, AttributeID: ua.AttributeIDBrowseName, DataEncoding: &ua.QualifiedName{}})
	}
	got, err := d.ask.Ask(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("read types: %w", err)
	}
	res, ok := got.(*uabin.ReadResponse)
	if !ok || len(res.Results) != len(req.NodesToRead) {
		return nil, errors.New("read types: the server's answer does not fit the question")
	}
	return res.Results, nil
}
