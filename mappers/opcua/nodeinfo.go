package opcua

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// nodeInfo is what a node takes.
type nodeInfo struct {
	typ   ua.TypeID
	array bool
}

// infosOf returns what nodes take, reading it of those for which it is not known yet. errs[i] says why it is not known of one; the error
// means that the server could not be asked.
func (c *client) infosOf(ctx context.Context, targets []target) (out []*nodeInfo, errs []error, err error) {
	out, errs = make([]*nodeInfo, len(targets)), make([]error, len(targets))
	var ask []int
	c.mu.Lock()
	for i, t := range targets {
		if out[i] = c.infos[t.node.String()]; out[i] == nil {
			ask = append(ask, i)
		}
	}
	c.mu.Unlock()
	if len(ask) == 0 {
		return out, errs, nil
	}
	nodes := make([]*ua.ReadValueID, 0, 3*len(ask))
	for _, i := range ask {
		for _, a := range []ua.AttributeID{ua.AttributeIDDataType, ua.AttributeIDValueRank, ua.AttributeIDValue} {
			nodes = append(nodes, readValue(targets[i].node, a, ""))
		}
	}
	got, err := c.readAttributes(ctx, nodes)
	if err != nil {
		return nil, nil, err
	}
	for k, i := range ask {
		if out[i], errs[i] = c.judge(ctx, got[3*k], got[3*k+1], got[3*k+2]); out[i] != nil {
			c.mu.Lock()
			if len(c.infos) > maxKnown {
				clear(c.infos)
			}
			c.infos[targets[i].node.String()] = out[i]
			c.mu.Unlock()
		}
	}
	return out, errs, nil
}

// judge finds what a node takes, of its data type, its rank and its present value. Where the first two leave it open, the value decides.
func (c *client) judge(ctx context.Context, dataType, rank, value uabin.DataValue) (*nodeInfo, error) {
	info := &nodeInfo{}
	if quality(dataType.Status) != device.Bad && dataType.Value.Type == ua.TypeIDNodeID {
		node, _ := dataType.Value.V.(*ua.NodeID)
		t, err := c.builtIn(ctx, node)
		if err != nil {
			return nil, err
		}
		info.typ = t
	}
	if dataType.Status == ua.StatusBadNodeIDUnknown || dataType.Status == ua.StatusBadNodeIDInvalid {
		return nil, errors.New(statusText(dataType.Status))
	}
	if info.typ == ua.TypeIDNull || info.typ == ua.TypeIDVariant {
		if value.Value.Type == ua.TypeIDNull {
			return nil, errors.New("the node takes values of several types, and has none now that shows which")
		}
		info.typ = value.Value.Type
	}
	n, ok := rank.Value.V.(int32)
	switch {
	case ok && n == -1:
	case ok && n >= 0:
		info.array = true
	default:
		info.array = value.Value.Array
	}
	return info, nil
}

// abstract are the data types of namespace 0 that leave the built-in type open.
func abstract(n uint32) bool {
	return n == id.BaseDataType || n == id.Number || n == id.Integer || n == id.UInteger
}

// builtIn is the built-in type of a data type: the first one among its supertypes. TypeIDVariant is one that leaves it open.
func (c *client) builtIn(ctx context.Context, dataType *ua.NodeID) (ua.TypeID, error) {
	key := dataType.String()
	c.mu.Lock()
	known, ok := c.types[key]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	node := dataType
	for range 32 {
		if node.Namespace() == 0 && node.StringID() == "" {
			n := node.IntID()
			t := ua.TypeID(n)
			switch {
			case abstract(n):
				t = ua.TypeIDVariant
			case n == id.Enumeration:
				t = ua.TypeIDInt32
			case n == 0 || n > uint32(ua.TypeIDDiagnosticInfo):
				t = 0
			}
			if t != 0 {
				c.mu.Lock()
				if len(c.types) > maxTypes {
					clear(c.types)
				}
				c.types[key] = t
				c.mu.Unlock()
				return t, nil
			}
		}
		parent, err := c.supertype(ctx, node)
		if err != nil {
			return 0, fmt.Errorf("data type %s: %w", dataType, err)
		}
		node = parent
	}
	return 0, fmt.Errorf("data type %s is derived of too many others", dataType)
}

// supertype is the data type that another one is derived of.
func (c *client) supertype(ctx context.Context, node *ua.NodeID) (*ua.NodeID, error) {
	got, err := c.call(ctx, &ua.BrowseRequest{
		View: &ua.ViewDescription{ViewID: ua.NewTwoByteNodeID(0)}, RequestedMaxReferencesPerNode: 2,
		NodesToBrowse: []*ua.BrowseDescription{{
			NodeID: node, BrowseDirection: ua.BrowseDirectionInverse, ReferenceTypeID: ua.NewNumericNodeID(0, id.HasSubtype), IncludeSubtypes: true,
		}},
	})
	if err != nil {
		return nil, err
	}
	res, ok := got.(*ua.BrowseResponse)
	if !ok || len(res.Results) != 1 {
		return nil, errors.New("the server does not say what it is derived of")
	}
	if len(res.Results[0].References) == 0 {
		return nil, fmt.Errorf("the server does not say what it is derived of (%s)", statusText(res.Results[0].StatusCode))
	}
	parent := res.Results[0].References[0].NodeID.NodeID
	return inNamespace(parent, parent.Namespace()), nil
}
