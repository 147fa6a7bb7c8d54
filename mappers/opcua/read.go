package opcua

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/channel"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// read fills values[i] for points[i]. The error means that the server could not be asked; what came before it is filled in.
func (c *client) read(ctx context.Context, points []*point, values []device.Value, most int) error {
	targets, err := c.targetsOf(ctx, points)
	if err != nil {
		fill(values, err)
		return err
	}
	todo := make([]int, 0, len(points))
	for i, t := range targets {
		if t.err != nil {
			values[i] = device.BadValue(t.err.Error(), time.Now())
			continue
		}
		todo = append(todo, i)
	}
	size := min(most, c.limits.read)
	for len(todo) > 0 {
		batch := todo[:min(len(todo), size)]
		err := c.readBatch(ctx, points, targets, batch, values)
		if tooMuch(err) && len(batch) > 1 {
			size = (len(batch) + 1) / 2
			continue
		}
		if err != nil && tooMuch(err) {
			values[batch[0]] = device.BadValue(reason(err), time.Now())
		} else if err != nil {
			for _, i := range todo {
				values[i] = device.BadValue(err.Error(), time.Now())
			}
			return err
		}
		todo = todo[len(batch):]
	}
	return nil
}

// tooMuch tells that a request should be split.
func tooMuch(err error) bool {
	var code ua.StatusCode
	if errors.Is(err, channel.ErrUnreadable) {
		return true // one value may be too large or damaged, and the others not
	}
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case ua.StatusBadTooManyOperations, ua.StatusBadRequestTooLarge, ua.StatusBadResponseTooLarge, ua.StatusBadTCPMessageTooLarge, ua.StatusBadEncodingLimitsExceeded:
		return true
	default:
		return false
	}
}

func fill(values []device.Value, err error) {
	now := time.Now()
	for i := range values {
		values[i] = device.BadValue(err.Error(), now)
	}
}

func (c *client) readBatch(ctx context.Context, points []*point, targets []target, batch []int, values []device.Value) error {
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnBoth, NodesToRead: make([]*ua.ReadValueID, len(batch))}
	for k, i := range batch {
		req.NodesToRead[k] = readValue(targets[i].node, ua.AttributeIDValue, points[i].extra().index)
	}
	got, err := c.call(ctx, req)
	if err != nil {
		return c.refused(err)
	}
	res, ok := got.(*uabin.ReadResponse)
	if !ok || len(res.Results) != len(batch) {
		return device.Unreachable("%s: the server answers a read of %d nodes with something else", c.endpoint.config.String(), len(batch))
	}
	now := time.Now()
	for k, i := range batch {
		values[i] = c.value(ctx, points[i], res.Results[k], now)
	}
	return nil
}

// refused is the error of a request that the server as a whole refused.
func (c *client) refused(err error) error {
	var code ua.StatusCode
	if errors.Is(err, device.ErrUnreachable) || !errors.As(err, &code) || tooMuch(err) {
		return err
	}
	return &callError{device.Unreachable("%s: %s", c.endpoint.config.String(), reason(err)), err}
}

// readAttributes reads one attribute each of several nodes, without timestamps.
func (c *client) readAttributes(ctx context.Context, nodes []*ua.ReadValueID) ([]uabin.DataValue, error) {
	var out []uabin.DataValue
	for len(nodes) > 0 {
		n := min(len(nodes), c.limits.read)
		got, err := c.call(ctx, &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: nodes[:n]})
		if err != nil {
			return nil, err
		}
		res, ok := got.(*uabin.ReadResponse)
		if !ok || len(res.Results) != n {
			return nil, fmt.Errorf("the server answers a read of %d attributes with something else", n)
		}
		out, nodes = append(out, res.Results...), nodes[n:]
	}
	return out, nil
}
