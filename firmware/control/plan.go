package control

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/skerry/skerry/firmware/devices"
)

// plan shows the device with those that it shares a line with, the device itself first.
func (s *Server) plan(_ context.Context, r *http.Request) (any, error) {
	d, err := s.device(r)
	if err != nil {
		return nil, err
	}
	var all []DevicePlan
	for _, o := range s.opt.Devices.Status() {
		cycles, err := s.opt.Explorer.Plan(o.Namespace, o.Name)
		all = append(all, PlanOf(o.Namespace, o.Name, cycles, err))
	}
	for _, l := range Lines(all) {
		i := slices.IndexFunc(l.Devices, func(p DevicePlan) bool { return p.Namespace == d.Namespace && p.Name == d.Name })
		if i < 0 {
			continue
		}
		if p := l.Devices[i]; p.Problem != "" && len(p.Cycles) == 0 {
			return nil, &Error{Code: CodeUnsupported, Text: fmt.Sprintf("the plan of device %s/%s: %s", d.Namespace, d.Name, p.Problem)}
		}
		self := l.Devices[i]
		l.Devices = append([]DevicePlan{self}, slices.Delete(l.Devices, i, i+1)...)
		return l, nil
	}
	return nil, &Error{Code: CodeFailed, Text: "the device went away"}
}

// Lines groups plans by what they share, in the order in which the lines first occur.
func Lines(plans []DevicePlan) []LinePlan {
	var out []LinePlan
	for _, p := range plans {
		line := ""
		for _, c := range p.Cycles {
			if c.Line != "" {
				line = c.Line
			}
		}
		i := slices.IndexFunc(out, func(l LinePlan) bool { return line != "" && l.Line == line })
		if i < 0 {
			i, out = len(out), append(out, LinePlan{Line: line})
		}
		out[i].Devices = append(out[i].Devices, p)
		out[i].Load += p.Load()
	}
	return out
}

// PlanOf is a device's plan as it is answered. err says why it is not whole.
func PlanOf(namespace, name string, cycles []devices.CyclePlan, err error) DevicePlan {
	out := DevicePlan{Namespace: namespace, Name: name, Cycles: []Cycle{}}
	if err != nil {
		out.Problem = err.Error()
	}
	for _, c := range cycles {
		cycle := Cycle{Every: c.Every, Line: c.Line, Load: c.Load, Note: c.Note, Requests: []Request{}}
		for _, r := range c.Requests {
			req := Request{Text: r.Text, Bytes: r.Bytes, Time: r.Time, Properties: []string{}}
			for _, i := range r.Points {
				if i >= 0 && i < len(c.Properties) {
					req.Properties = append(req.Properties, c.Properties[i])
				}
			}
			cycle.Requests = append(cycle.Requests, req)
		}
		out.Cycles = append(out.Cycles, cycle)
	}
	return out
}
