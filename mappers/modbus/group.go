package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/skerry/skerry/mappers/device"
)

// written is one value on its way to the device.
type written struct {
	point  *point
	data   []byte // as a read returns it
	result *device.WriteResult
}

// group tells how many of the first items go out in one request: those that lie one after the other in the table, in the order
// in which they were given.
func (s *session) group(items []written) int {
	first, end := items[0].point, items[0].point.end()
	if !s.config.groupWrites || s.config.broadcast || first.layout.partial() {
		return 1
	}
	most := min(maxWriteRegisters, s.config.limits.registers)
	if first.table == coils {
		most = min(maxWriteBits, s.config.limits.bits)
	}
	for n, w := range items[1:] {
		p := w.point
		if p.table != first.table || int(p.addr) != end || p.end()-int(first.addr) > most || p.layout.partial() || p.readBack != first.readBack {
			return n + 1
		}
		end = p.end()
	}
	return len(items)
}

// writeGroup writes neighbours in one request. It returns false if the device refuses that: then each has to be tried alone.
func (s *session) writeGroup(ctx context.Context, items []written) bool {
	first := items[0].point
	var data []byte
	for i, w := range items {
		switch {
		case first.table != coils:
			data = append(data, w.data...)
		default:
			if i%8 == 0 {
				data = append(data, 0)
			}
			data[i/8] |= w.data[0] << (i % 8)
		}
	}
	n := uint16(items[len(items)-1].point.end() - int(first.addr))
	_, err := s.do(ctx, writeMany(first.table, first.addr, n, data), true)
	var ex *exception
	if errors.As(err, &ex) {
		return false
	}
	var back []byte
	if err == nil && first.readBack {
		if back, err = s.do(ctx, readRequest(first.table, first.addr, n), true); errors.As(err, &ex) {
			back, err = nil, nil // accepted, and cannot be read together: one by one
		} else if err != nil {
			err = fmt.Errorf("written, and the read-back failed: %w", err)
		}
	}
	for _, w := range items {
		switch {
		case err != nil || !first.readBack:
			w.result.Err = err
		case back == nil:
			*w.result = s.verify(ctx, w.point, w.data, nil)
		default:
			*w.result = s.compare(w.point, w.data, nil, w.point.cut(first.addr, back), nil)
		}
	}
	return true
}

// cut takes the point's own data, as a read of it alone returns it, out of the data of a block that starts at base.
func (p *point) cut(base uint16, data []byte) []byte {
	at := int(p.addr - base)
	if p.table.bits() {
		return []byte{data[at/8] >> (at % 8) & 1}
	}
	return bytes.Clone(data[2*at : 2*(at+int(p.width))])
}
