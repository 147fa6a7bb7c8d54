package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/mappers/device"
)

const (
	illegalFunction = modbus.ExceptionCodeIllegalFunction
	illegalAddress  = modbus.ExceptionCodeIllegalDataAddress
)

// written is one value on its way to the device.
type written struct {
	point   *point
	data    []byte // as a read returns it
	result  *device.WriteResult
	settled bool // there is nothing to read back any more
}

// Write implements device.Session: FC 5 and 6 for one coil or register, FC 16 for values of several, FC 22 for bits of a
// register, and others where a device does not know those. They go out one after the other, ahead of what others read, and are read back
// after the last of them (burst.go). Neighbours that follow each other go out in one request, as groupWrites says.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	out := make([]device.WriteResult, len(writes))
	items := make([]written, 0, len(writes))
	for i, w := range writes {
		p, ok := w.Point.(*point)
		if !ok {
			out[i].Err = fmt.Errorf("modbus: point %d is a %T, which another driver compiled", i, w.Point)
			continue
		}
		data, err := p.encode(w.Value)
		if err != nil {
			out[i].Err = err
			continue
		}
		items = append(items, written{point: p, data: data, result: &out[i]})
	}
	for len(items) > 0 {
		n := apart(items)
		s.writeApart(ctx, items[:n])
		items = items[n:]
	}
	return out
}

// firstRequest returns what is tried first to write a value; nil if more than one request is needed, or the reply brings the read-back.
func (s *session) firstRequest(w written) *request {
	p := w.point
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p.layout.partial() && p.table != coils:
		if !s.masks(p) {
			return nil
		}
		return maskWrite(p.addr, binary.BigEndian.Uint16(p.layout.maskBytes()), binary.BigEndian.Uint16(w.data))
	case s.mixes(p):
		return nil
	case p.width > 1 || p.multiple:
		return writeMany(p.table, p.addr, p.width, w.data)
	case p.table == coils:
		return writeCoil(p.addr, w.data[0] == 1)
	}
	return writeRegister(p.addr, w.data)
}

// masks tells that bits are written with FC 22. The lock is held.
func (s *session) masks(p *point) bool { return p.width == 1 && !s.noMask && !s.config.noMask }

// mixes tells that a value is written with FC 23. The lock is held.
func (s *session) mixes(p *point) bool {
	return s.config.mixed && !s.noMixed && p.table != coils && p.readBack && !s.config.broadcast && p.width <= maxMixed
}

// bits tells that the value is some bits of a register.
func (w written) bits() bool { return w.point.table != coils && w.point.layout.partial() }

// writeAlone writes one value.
func (s *session) writeAlone(ctx context.Context, w *written) error {
	r := s.firstRequest(*w)
	if r == nil {
		return s.writeSteps(ctx, w)
	}
	_, err := s.do(ctx, r, classWrite)
	return s.writeOtherwise(ctx, w, err)
}

// writeOtherwise tries what is left after the error of the first request: what a device does instead that does not know the function.
func (s *session) writeOtherwise(ctx context.Context, w *written, err error) error {
	p := w.point
	switch {
	case w.bits() && isException(err, illegalFunction):
		s.set(&s.noMask)
		return s.writeSteps(ctx, w)
	case w.bits() && isMute(err): // or it is only away: then reading and writing, which is not one step, must not take FC 22's place
		return fmt.Errorf("%w (bits are written with FC 22: if it answers everything else, set maskWrite to false)", err)
	case p.width == 1 && !p.multiple && isException(err, illegalFunction):
		_, err = s.do(ctx, writeMany(p.table, p.addr, 1, w.data), classWrite)
	}
	return err
}

// writeSteps writes what is no plain write: bits where the device has no FC 22, or with FC 23.
func (s *session) writeSteps(ctx context.Context, w *written) error {
	if w.bits() {
		return s.writeBits(ctx, w)
	}
	back, err := s.do(ctx, writeAndRead(w.point.addr, w.data), classWrite)
	if isException(err, illegalFunction) {
		s.set(&s.noMixed)
		return s.writeAlone(ctx, w)
	}
	if err == nil {
		*w.result, w.settled = w.compare(back), true
	}
	return err
}

// writeBits changes bits and leaves the others as they are, by reading and writing.
func (s *session) writeBits(ctx context.Context, w *written) error {
	if s.config.broadcast {
		return errors.New("some bits of a register cannot be broadcast to devices without FC 22: their other bits are not known")
	}
	s.change.Lock()
	defer s.change.Unlock()
	p, mask := w.point, w.point.layout.maskBytes()
	whole, err := s.do(ctx, readRequest(p.table, p.addr, p.width), classWrite)
	if err != nil {
		return fmt.Errorf("the register's other bits: %w", err)
	}
	for i := range whole {
		whole[i] = whole[i]&^mask[i] | w.data[i]
	}
	return s.writeWhole(ctx, p, whole)
}

// writeWhole writes registers that have been put together.
func (s *session) writeWhole(ctx context.Context, p *point, data []byte) error {
	if p.width == 1 && !p.multiple {
		_, err := s.do(ctx, writeRegister(p.addr, data), classWrite)
		if !isException(err, illegalFunction) {
			return err
		}
	}
	_, err := s.do(ctx, writeMany(p.table, p.addr, p.width, data), classWrite)
	return err
}

func (s *session) set(flag *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*flag = true
}

func isException(err error, code byte) bool {
	var ex *exception
	return errors.As(err, &ex) && ex.code == code
}
