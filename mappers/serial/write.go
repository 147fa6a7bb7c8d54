package serial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Write implements device.Session: each value's command, the device's acknowledgement if there is a pattern for it, and the value
// requested again if the property has a request. Writes go ahead of reads.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	out := make([]device.WriteResult, len(writes))
	for i, w := range writes {
		p, ok := w.Point.(*point)
		if !ok {
			out[i].Err = fmt.Errorf("serial: point %d is a %T, which another driver compiled", i, w.Point)
			continue
		}
		out[i] = s.writeOne(ctx, p, w.Value)
	}
	return out
}

func (s *session) writeOne(ctx context.Context, p *point, v device.Value) device.WriteResult {
	if s.ctx.Err() != nil {
		return device.WriteResult{Err: device.ErrClosed}
	}
	data, err := p.command(s.config.station, v)
	if err == nil && s.config.envelope {
		data, err = s.config.format.Encode(data)
	}
	if err != nil {
		return device.WriteResult{Err: err}
	}
	var refused string
	x := &exchange{data: data, urgent: true}
	if p.ack != nil || p.nak != nil {
		x.take = func(m *message) (useful, last bool) {
			if p.nak != nil && p.nak.Match(m.raw) {
				refused = visible(m.raw)
				return true, true
			}
			ok := p.ack == nil || p.ack.Match(m.raw)
			return ok, ok
		}
	}
	switch err := s.do(ctx, x); {
	case err != nil:
		return device.WriteResult{Err: err}
	case refused != "":
		return device.WriteResult{Err: fmt.Errorf("the device refused %s: it said %s", v.Text(), refused)}
	case !p.readBack || s.requestOf(p) == nil:
		return device.WriteResult{}
	}
	return s.verify(ctx, p, v, data)
}

// verify requests what was written. Values are equal if their commands are: a device that keeps two decimals shows two.
func (s *session) verify(ctx context.Context, p *point, v device.Value, sent []byte) device.WriteResult {
	values := make([]device.Value, 1)
	err := s.ask(ctx, s.requestOf(p), []int{0}, []*point{p}, values, true)
	switch {
	case errors.Is(err, errOddReply), err == nil && values[0].Kind() == device.KindNone:
		return device.WriteResult{Readback: device.BadValue(values[0].Reason, time.Now())} // accepted, and cannot be read
	case err != nil:
		return device.WriteResult{Err: fmt.Errorf("written, and the read-back failed: %w", err)}
	}
	shown, err := values[0].Convert(p.typ)
	if err != nil {
		return device.WriteResult{Readback: device.BadValue(err.Error(), time.Now())}
	}
	res := device.WriteResult{Readback: shown}
	again, err := p.command(s.config.station, shown)
	if err == nil && s.config.envelope {
		again, err = s.config.format.Encode(again)
	}
	if res.Verified = err == nil && bytes.Equal(again, sent); !res.Verified {
		res.Err = fmt.Errorf("%w: wrote %s, and the device shows %s", device.ErrNotVerified, v.Text(), shown.Text())
	}
	return res
}
