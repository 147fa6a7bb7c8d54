package opcua

import (
	"context"
	"fmt"
	"strings"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/browse"
)

// Browse implements device.Browser. A node is written as configData writes it; empty, it is the Objects folder.
func (s *session) Browse(ctx context.Context, node string, limit int) ([]device.BrowseEntry, error) {
	ctx, leave := s.enter(ctx)
	defer leave()
	if s.ctx.Err() != nil {
		return nil, device.ErrClosed
	}
	c, err := s.endpoint.ready(ctx)
	if err != nil {
		return nil, s.closed(err)
	}
	var from *ua.NodeID
	if strings.TrimSpace(node) != "" {
		a, err := parseAddress(node)
		if err == nil {
			from, err = a.resolve(c.namespaces)
		}
		if err != nil {
			return nil, fmt.Errorf("node %q: %w; allowed: %s", node, err, addressAllowed)
		}
	}
	got, err := browse.Lister{Ask: asker{c}, Namespaces: c.namespaces, MaxRead: c.limits.read}.Children(ctx, from, limit)
	return got, s.closed(err)
}
