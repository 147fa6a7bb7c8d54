package opcua

import (
	"context"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"
)

// target is a point's node at a server.
type target struct {
	node *ua.NodeID
	err  error // why there is none
}

// maxKnown limits how many nodes a connection remembers: points may come and go for ever.
const maxKnown = 100000

// targetsOf finds the nodes of points, asking the server for those with a browse path that it has not resolved yet. The error
// means that the server could not be asked.
func (c *client) targetsOf(ctx context.Context, points []*point) ([]target, error) {
	out := make([]target, len(points))
	var paths []int
	for i, p := range points {
		if p.extra().path == "" {
			out[i].node, out[i].err = p.address().resolve(c.namespaces)
			continue
		}
		c.mu.Lock()
		out[i].node = c.paths[p.place()]
		c.mu.Unlock()
		if out[i].node == nil {
			paths = append(paths, i)
		}
	}
	for len(paths) > 0 {
		n := min(len(paths), c.limits.translate)
		if err := c.translate(ctx, points, paths[:n], out); err != nil {
			return nil, err
		}
		paths = paths[n:]
	}
	return out, nil
}

// translate resolves browse paths (Part 4, section 5.8.4).
func (c *client) translate(ctx context.Context, points []*point, which []int, out []target) error {
	req := &ua.TranslateBrowsePathsToNodeIDsRequest{}
	var asked []int
	for _, i := range which {
		p := points[i]
		start, err := c.start(p)
		var path *ua.RelativePath
		if err == nil {
			path, err = relative(p.extra().path, c.namespaces)
		}
		if err != nil {
			out[i] = target{err: err}
			continue
		}
		asked = append(asked, i)
		req.BrowsePaths = append(req.BrowsePaths, &ua.BrowsePath{StartingNode: start, RelativePath: path})
	}
	if len(asked) == 0 {
		return nil
	}
	got, err := c.call(ctx, req)
	if err != nil {
		return err
	}
	res, ok := got.(*ua.TranslateBrowsePathsToNodeIDsResponse)
	if !ok || len(res.Results) != len(asked) {
		return errors.New("the server does not resolve browse paths")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.paths) > maxKnown {
		clear(c.paths)
	}
	for k, r := range res.Results {
		t := &out[asked[k]]
		switch {
		case r.StatusCode != ua.StatusOK:
			t.err = fmt.Errorf("the browse path leads nowhere: %s", statusText(r.StatusCode))
		case len(r.Targets) != 1:
			t.err = fmt.Errorf("the browse path leads to %d nodes", len(r.Targets))
		case r.Targets[0].RemainingPathIndex != 0xffffffff || r.Targets[0].TargetID.ServerIndex != 0:
			t.err = errors.New("the browse path leads to another server")
		default:
			t.node = inNamespace(r.Targets[0].TargetID.NodeID, r.Targets[0].TargetID.NodeID.Namespace())
			c.paths[points[asked[k]].place()] = t.node // one that leads nowhere is tried again: the node may come
		}
	}
	return nil
}

// start is where a browse path starts.
func (c *client) start(p *point) (*ua.NodeID, error) {
	x := p.extra()
	switch {
	case x.start:
		return p.address().resolve(c.namespaces)
	case startsAtRoot(x.path):
		return ua.NewNumericNodeID(0, rootFolder), nil
	default:
		return ua.NewNumericNodeID(0, objectFolder), nil
	}
}
