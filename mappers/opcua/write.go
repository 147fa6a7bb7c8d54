package opcua

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Write implements device.Session.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	ctx, leave := s.enter(ctx)
	defer leave()
	out := make([]device.WriteResult, len(writes))
	fail := func(err error) []device.WriteResult {
		for i := range out {
			out[i] = device.WriteResult{Err: s.closed(err)}
		}
		return out
	}
	if err := s.ctx.Err(); err != nil {
		return fail(device.ErrClosed)
	}
	points := make([]device.Point, len(writes))
	for i, w := range writes {
		points[i] = w.Point
	}
	own, err := pointsOf(points)
	if err != nil {
		return fail(err)
	}
	c, err := s.endpoint.ready(ctx)
	if err != nil {
		return fail(err)
	}
	j := &writing{c: c, points: own, writes: writes, results: out, size: s.config.maxNodes}
	j.run(ctx)
	for i := range out {
		out[i].Err = s.closed(out[i].Err)
	}
	return out
}

// writing is one batch of writes on its way.
type writing struct {
	c       *client
	points  []*point
	writes  []device.Write
	results []device.WriteResult
	size    int

	targets []target
	values  []uabin.Variant
}

func (w *writing) run(ctx context.Context) {
	todo, err := w.prepare(ctx)
	if err != nil {
		for i := range w.results {
			w.results[i].Err = err
		}
		return
	}
	var accepted []int
	size := min(w.size, w.c.limits.write)
	for len(todo) > 0 {
		batch := todo[:min(len(todo), size)]
		err := w.send(ctx, batch)
		if tooMuch(err) && len(batch) > 1 {
			size = (len(batch) + 1) / 2
			continue
		}
		for _, i := range batch {
			if err != nil {
				w.results[i].Err = err
			} else if w.results[i].Err == nil {
				accepted = append(accepted, i)
			}
		}
		todo = todo[len(batch):]
	}
	w.verify(ctx, accepted)
}

// prepare finds the nodes and gives each value the node's own type. It returns which writes can be sent.
func (w *writing) prepare(ctx context.Context) ([]int, error) {
	var err error
	if w.targets, err = w.c.targetsOf(ctx, w.points); err != nil {
		return nil, err
	}
	var known []int
	var ask []target
	for i, t := range w.targets {
		if t.err != nil {
			w.results[i].Err = t.err
			continue
		}
		known, ask = append(known, i), append(ask, t)
	}
	infos, errs, err := w.c.infosOf(ctx, ask)
	if err != nil {
		return nil, err
	}
	w.values = make([]uabin.Variant, len(w.points))
	var todo []int
	for k, i := range known {
		if err := errs[k]; err != nil {
			w.results[i].Err = err
		} else if w.values[i], err = w.c.variant(w.writes[i].Value, infos[k], w.points[i]); err != nil {
			w.results[i].Err = err
		} else {
			todo = append(todo, i)
		}
	}
	return todo, nil
}

func (w *writing) send(ctx context.Context, batch []int) error {
	req := &uabin.WriteRequest{}
	for _, i := range batch {
		req.NodesToWrite = append(req.NodesToWrite, &uabin.WriteValue{
			NodeID: w.targets[i].node, AttributeID: ua.AttributeIDValue, IndexRange: w.points[i].extra().index, Value: &uabin.DataValue{Value: w.values[i]},
		})
	}
	got, err := w.c.call(ctx, req)
	if err != nil {
		return w.c.refused(err)
	}
	res, ok := got.(*ua.WriteResponse)
	if !ok || len(res.Results) != len(batch) {
		return errors.New("the server answers a write with something else; whether it was done is not known")
	}
	for k, i := range batch {
		if code := res.Results[k]; quality(code) == device.Bad {
			w.results[i].Err = w.refusal(code, i)
		}
	}
	return nil
}

// refusal is the server's word against a value.
func (w *writing) refusal(code ua.StatusCode, i int) error {
	switch code {
	case ua.StatusBadTypeMismatch:
		return fmt.Errorf("%s; the value was sent as %s", statusText(code), typeName(w.values[i].Type))
	case ua.StatusBadOutOfRange:
		return fmt.Errorf("%s: %s", clip(w.writes[i].Value.Text()), statusText(code))
	default:
		return errors.New(statusText(code))
	}
}

// verify reads accepted values back.
func (w *writing) verify(ctx context.Context, accepted []int) {
	var which []int
	var points []*point
	for _, i := range accepted {
		if w.points[i].readBack {
			which, points = append(which, i), append(points, w.points[i])
		}
	}
	if len(which) == 0 {
		return
	}
	got := make([]device.Value, len(which))
	_ = w.c.read(ctx, points, got, w.size) // the values say what failed
	now := time.Now()
	for k, i := range which {
		r := &w.results[i]
		r.Readback = got[k]
		if got[k].Kind() == device.KindNone {
			continue
		}
		want := w.c.value(ctx, w.points[i], uabin.DataValue{Value: w.values[i]}, now)
		if !want.Same(got[k]) {
			r.Err = fmt.Errorf("%w: wrote %s, the device shows %s", device.ErrNotVerified, clip(want.Text()), clip(got[k].Text()))
			continue
		}
		r.Verified = true
	}
}
