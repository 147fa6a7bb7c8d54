package control

import (
	"context"
	"fmt"
	"net/http"
)

var errNoHistory = &Error{Code: CodeUnsupported, Text: "this agent keeps no history: devices.history.maxBytes is 0, or its folder cannot be read"}

// historyStats says what is kept of a device, and what is not.
func (s *Server) historyStats(_ context.Context, r *http.Request) (any, error) {
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	if s.opt.HistoryStats == nil {
		return nil, errNoHistory
	}
	return s.opt.HistoryStats(d.Namespace, d.Name), nil
}

// history sends what was kept of a device's values, the oldest first.
func (s *Server) history(_ context.Context, r *http.Request, out *lines) error {
	var req HistoryRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	d, err := s.device(r)
	if err != nil {
		return err
	}
	if req.Property != "" {
		if err := known(d, []string{req.Property}); err != nil {
			return err
		}
	}
	if req.Limit == 0 {
		req.Limit = defaultKept
	}
	if req.Limit < 1 || req.Limit > maxKept {
		return &Error{Code: CodeInvalid, Text: fmt.Sprintf("limit %d: allowed are 1 to %d", req.Limit, maxKept)}
	}
	if s.opt.History == nil {
		return errNoHistory
	}
	got, err := s.opt.History(d.Namespace, d.Name, req.Property, req.From, req.To, req.Limit)
	if err != nil {
		return fmt.Errorf("read the history of device %s/%s: %w", d.Namespace, d.Name, err)
	}
	units := map[string]string{}
	for _, p := range d.Properties {
		units[p.Name] = p.Unit
	}
	const batch = 256
	for len(got) > 0 {
		docs := make([]any, 0, batch)
		for _, k := range got[:min(batch, len(got))] {
			c := Change{Namespace: d.Namespace, Device: d.Name, Property: valueOf(k.Property, k.Value), Source: k.Value.Source}
			c.Unit = units[k.Property]
			docs = append(docs, c)
		}
		if err := out.send(docs...); err != nil {
			return err
		}
		got = got[len(docs):]
	}
	return out.send()
}
