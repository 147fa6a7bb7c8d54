package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// readBack reads values back that have been written, in as few requests as possible. Those that the device refuses to show together are
// asked for one by one.
func (s *session) readBack(ctx context.Context, items []written) {
	var sent []*written
	var spans []span
	for i := range items {
		w := &items[i]
		if w.result.Err == nil && !w.settled && w.point.readBack && !s.config.broadcast {
			sent, spans = append(sent, w), append(spans, w.point.span)
		}
	}
	if len(sent) == 0 {
		return
	}
	s.mu.Lock()
	s.forget(time.Now())
	grouped := plan(spans, s.config.limits, s.holes)
	s.mu.Unlock()
	alone := grouped.wide
	for i := range grouped.refused { // perhaps it can be read by now
		alone = append(alone, i)
	}
	for _, b := range grouped.blocks {
		data, err := s.do(ctx, readRequest(b.table, b.addr, b.width), classReadBack)
		if isRefusal(err) && !b.uniform(spans) {
			alone = append(alone, b.members...)
			continue
		}
		for _, i := range b.members {
			sent[i].shown(b.addr, data, err)
		}
	}
	slices.Sort(alone)
	for _, i := range alone {
		w := sent[i]
		data, err := s.do(ctx, readRequest(w.point.table, w.point.addr, w.point.width), classReadBack)
		w.shown(w.point.addr, data, err)
	}
}

func isRefusal(err error) bool {
	var ex *exception
	return errors.As(err, &ex)
}

// shown takes over what a read-back of a block that starts at base brought.
func (w *written) shown(base uint16, data []byte, err error) {
	var ex *exception
	switch {
	case errors.As(err, &ex):
		*w.result = device.WriteResult{Readback: device.BadValue(ex.Error(), time.Now())} // accepted, and cannot be read
	case err != nil:
		*w.result = device.WriteResult{Err: fmt.Errorf("written, and the read-back failed: %w", err)}
	default:
		*w.result = w.compare(w.point.cut(base, data))
	}
}

// compare judges what was read back. The bits on the wire are compared, not the scaled values, so rounding cannot hide a difference nor invent
// one.
func (w *written) compare(data []byte) device.WriteResult {
	p := w.point
	res := device.WriteResult{Readback: p.value(p.addr, data).At(time.Now())}
	shown := bytes.Clone(data)
	if w.bits() {
		for i, mask := range p.layout.maskBytes() {
			shown[i] &= mask
		}
	}
	if res.Verified = bytes.Equal(shown, w.data); !res.Verified {
		want := p.value(p.addr, w.data)
		res.Err = fmt.Errorf("%w: wrote %s to %s %d, and the device shows %s", device.ErrNotVerified, want.Text(), p.table, p.addr, res.Readback.Text())
	}
	return res
}

// cut takes the point's own data, as a read of it alone returns it, out of the data of a block that starts at base.
func (p *point) cut(base uint16, data []byte) []byte {
	at := int(p.addr - base)
	if p.table.bits() {
		return []byte{data[at/8] >> (at % 8) & 1}
	}
	return bytes.Clone(data[2*at : 2*(at+int(p.width))])
}
