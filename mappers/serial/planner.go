package serial

import (
	"fmt"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial/frame"
)

// Plan implements device.Planner. What a device sends by itself, and how long its replies are, only frames of a fixed length tell: the rest
// is not counted, and the note says so.
func (d *Driver) Plan(cfg device.Config, points []device.Point, cycle time.Duration) (device.Plan, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return device.Plan{}, err
	}
	out := device.Plan{Line: c.name()}
	if c.address == "" {
		out.Line = c.line.String()
	}
	s := &session{config: c}
	at := map[string]int{}
	heard := 0
	var busy time.Duration
	for i, dp := range points {
		p, ok := dp.(*point)
		if !ok {
			return device.Plan{}, fmt.Errorf("serial: point %d is a %T, which another driver compiled", i, dp)
		}
		t := s.requestOf(p)
		if t == nil {
			heard++
			continue
		}
		if n, known := at[t.source]; known {
			out.Requests[n].Points = append(out.Requests[n].Points, i)
			continue
		}
		data, err := s.envelop(t, noValue)
		if err != nil {
			return device.Plan{}, err
		}
		r := device.PlannedRequest{Text: "send " + visible(data), Points: []int{i}, Bytes: len(data)}
		if c.format.Kind == frame.Fixed {
			r.Bytes += c.format.Length
		}
		if c.address == "" {
			r.Time = c.requestGap + c.line.CharTime(r.Bytes)
		}
		busy += r.Time
		at[t.source] = len(out.Requests)
		out.Requests = append(out.Requests, r)
	}
	if cycle > 0 {
		out.Load = busy.Seconds() / cycle.Seconds()
	}
	var notes []string
	if len(out.Requests) > 0 && c.format.Kind != frame.Fixed {
		notes = append(notes, "the length of the replies is the device's, so bytes, time and load are those of the requests alone")
	}
	if heard > 0 {
		notes = append(notes, fmt.Sprintf("the device sends %d properties by itself", heard))
	}
	out.Note = strings.Join(notes, "; ")
	return out, nil
}
