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

// methodPoint stands for a method of an object. It is only called.
type methodPoint struct{ *point }

// Arguments implements device.Method: only the server knows them.
func (methodPoint) Arguments() (in, out []device.Argument) { return nil, nil }

// maxArguments limits what a method takes and gives.
const maxArguments = 100

// Call implements device.Caller. Arguments get the types that the method declares.
func (s *session) Call(ctx context.Context, p device.Point, args []device.Value) ([]device.Value, error) {
	ctx, leave := s.enter(ctx)
	defer leave()
	if s.ctx.Err() != nil {
		return nil, device.ErrClosed
	}
	m, ok := p.(methodPoint)
	if !ok {
		return nil, fmt.Errorf("%s is not a method: its visitor has no methodID", p)
	}
	c, err := s.endpoint.ready(ctx)
	if err != nil {
		return nil, s.closed(err)
	}
	out, err := c.callMethod(ctx, m.point, args)
	return out, s.closed(err)
}

func (c *client) callMethod(ctx context.Context, p *point, args []device.Value) ([]device.Value, error) {
	targets, err := c.targetsOf(ctx, []*point{p})
	if err != nil {
		return nil, err
	}
	if targets[0].err != nil {
		return nil, targets[0].err
	}
	named, err := parseAddress(p.extra().method)
	if err != nil {
		return nil, err
	}
	method, err := named.resolve(c.namespaces)
	if err != nil {
		return nil, err
	}
	declared, err := c.inputs(ctx, method)
	if err != nil {
		return nil, err
	}
	if len(declared) != len(args) {
		return nil, fmt.Errorf("the method takes %d arguments (%s) and was given %d", len(declared), names(declared), len(args))
	}
	m := &uabin.CallMethod{ObjectID: targets[0].node, MethodID: method, Inputs: make([]*uabin.Variant, len(args))}
	for i, a := range args {
		v, err := c.variant(a, &declared[i].info, &point{})
		if err != nil {
			return nil, fmt.Errorf("argument %q: %w", declared[i].name, err)
		}
		m.Inputs[i] = &v
	}
	got, err := c.call(ctx, &uabin.CallRequest{MethodsToCall: []*uabin.CallMethod{m}})
	if err != nil {
		return nil, c.refused(err)
	}
	res, ok := got.(*uabin.CallResponse)
	if !ok || len(res.Results) != 1 {
		return nil, errors.New("the server answers a call with something else; whether it was done is not known")
	}
	return c.results(ctx, res.Results[0], declared)
}

// results are what a method returned, or why it was refused.
func (c *client) results(ctx context.Context, r uabin.CallResult, declared []argument) ([]device.Value, error) {
	if quality(r.Status) == device.Bad {
		for i, code := range r.Inputs {
			if quality(code) == device.Bad && i < len(declared) {
				return nil, fmt.Errorf("%s; argument %q: %s", statusText(r.Status), declared[i].name, statusText(code))
			}
		}
		return nil, errors.New(statusText(r.Status))
	}
	if len(r.Output) > maxArguments {
		return nil, fmt.Errorf("the method returned %d values", len(r.Output))
	}
	out := make([]device.Value, len(r.Output))
	for i, v := range r.Output {
		var err error
		if out[i], err = c.datum(ctx, &point{}, v); err != nil && out[i].Kind() == device.KindNone {
			return nil, fmt.Errorf("result %d: %w", i, err)
		}
	}
	return out, nil
}

// argument is what a method takes.
type argument struct {
	name string
	info nodeInfo
}

func names(list []argument) string {
	text := ""
	for i, a := range list {
		if i > 0 {
			text += ", "
		}
		text += a.name + " " + typeName(a.info.typ)
		if a.info.array {
			text += "[]"
		}
	}
	return text
}

// inputs reads what a method takes (Part 3, section 5.7). A method without the property takes nothing.
func (c *client) inputs(ctx context.Context, method *ua.NodeID) ([]argument, error) {
	got, err := c.call(ctx, &ua.TranslateBrowsePathsToNodeIDsRequest{BrowsePaths: []*ua.BrowsePath{{
		StartingNode: method, RelativePath: &ua.RelativePath{Elements: []*ua.RelativePathElement{{
			ReferenceTypeID: ua.NewNumericNodeID(0, id.HasProperty), IncludeSubtypes: true, TargetName: &ua.QualifiedName{Name: "InputArguments"},
		}}},
	}}})
	if err != nil {
		return nil, c.refused(err)
	}
	res, ok := got.(*ua.TranslateBrowsePathsToNodeIDsResponse)
	if !ok || len(res.Results) != 1 {
		return nil, errors.New("the server does not say what the method takes")
	}
	r := res.Results[0]
	switch {
	case r.StatusCode == ua.StatusBadNodeIDUnknown || r.StatusCode == ua.StatusBadNodeIDInvalid:
		return nil, fmt.Errorf("the method: %s", statusText(r.StatusCode))
	case r.StatusCode != ua.StatusOK || len(r.Targets) == 0:
		return nil, nil
	}
	node := inNamespace(r.Targets[0].TargetID.NodeID, r.Targets[0].TargetID.NodeID.Namespace())
	values, err := c.readAttributes(ctx, []*ua.ReadValueID{readValue(node, ua.AttributeIDValue, "")})
	if err != nil {
		return nil, err
	}
	list, ok := values[0].Value.V.([]uabin.Extension)
	if !ok && values[0].Value.Type != ua.TypeIDNull {
		return nil, fmt.Errorf("what the method takes cannot be read: %s", statusText(values[0].Status))
	}
	if len(list) > maxArguments {
		return nil, fmt.Errorf("the method takes %d arguments", len(list))
	}
	out := make([]argument, len(list))
	for i, x := range list {
		if out[i], err = c.argument(ctx, x.Body); err != nil {
			return nil, fmt.Errorf("argument %d of the method: %w", i, err)
		}
	}
	return out, nil
}

// argument decodes an Argument (Part 3, section 8.6).
func (c *client) argument(ctx context.Context, body []byte) (argument, error) {
	r := uabin.NewReader(body)
	a := argument{name: r.String()}
	dataType, rank := r.NodeID(), r.Int32()
	if r.Err() != nil {
		return a, r.Err()
	}
	t, err := c.builtIn(ctx, dataType)
	if err != nil {
		return a, err
	}
	if t == ua.TypeIDVariant {
		return a, errors.New("takes values of any type, which cannot be chosen here")
	}
	a.info = nodeInfo{typ: t, array: rank >= 0}
	return a, nil
}
