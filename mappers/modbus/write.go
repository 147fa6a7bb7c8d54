package modbus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/mappers/device"
)

const (
	illegalFunction = modbus.ExceptionCodeIllegalFunction
	illegalAddress  = modbus.ExceptionCodeIllegalDataAddress
)

// Write implements device.Session: FC 5 and 6 for one coil or register, FC 16 for values of several, FC 22 for bits of a
// register, and others where a device does not know those. Writes and their read-back go ahead of reads. With groupWrites,
// neighbours that follow each other go out in one request.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	out := make([]device.WriteResult, len(writes))
	var items []written
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
		items = append(items, written{p, data, &out[i]})
	}
	for len(items) > 0 {
		n := s.group(items)
		if n == 1 || !s.writeGroup(ctx, items[:n]) {
			for _, w := range items[:n] {
				*w.result = s.writeOne(ctx, w.point, w.data)
			}
		}
		items = items[n:]
	}
	return out
}

// writeOne writes one value, given as a read returns it.
func (s *session) writeOne(ctx context.Context, p *point, data []byte) device.WriteResult {
	var err error
	mask := []byte(nil) // all bits are the value's
	switch {
	case p.table == coils:
		err = s.writeWhole(ctx, p, writeCoil(p.addr, data[0] == 1), data)
	case p.layout.partial():
		mask = p.layout.maskBytes()
		err = s.writePart(ctx, p, data, mask)
	case s.wantsMixed(p):
		var back []byte
		back, err = s.do(ctx, writeAndRead(p.addr, data), true)
		if !isException(err, illegalFunction) {
			return s.compare(p, data, nil, back, err)
		}
		s.set(&s.noMixed)
		err = s.writeRegisters(ctx, p, data)
	default:
		err = s.writeRegisters(ctx, p, data)
	}
	if err != nil || !p.readBack || s.config.broadcast {
		return device.WriteResult{Err: err}
	}
	return s.verify(ctx, p, data, mask)
}

func (s *session) wantsMixed(p *point) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.mixed && !s.noMixed && p.readBack && !s.config.broadcast && p.width <= maxMixed
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

func (s *session) writeRegisters(ctx context.Context, p *point, data []byte) error {
	if p.width > 1 {
		_, err := s.do(ctx, writeMany(holdingRegisters, p.addr, p.width, data), true)
		return err
	}
	return s.writeWhole(ctx, p, writeRegister(p.addr, data), data)
}

// writeWhole writes one coil or register with single, or with FC 15 or 16 if the device or its manifest wants that.
func (s *session) writeWhole(ctx context.Context, p *point, single *request, data []byte) error {
	if !p.multiple {
		_, err := s.do(ctx, single, true)
		if !isException(err, illegalFunction) {
			return err
		}
	}
	_, err := s.do(ctx, writeMany(p.table, p.addr, 1, data), true)
	return err
}

// writePart changes the bits of mask and leaves the others as they are: with FC 22, which the device carries out as a whole, or
// by reading and writing where the device has no FC 22.
func (s *session) writePart(ctx context.Context, p *point, data, mask []byte) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	masks := p.width == 1 && !s.noMask && !s.config.noMask
	s.mu.Unlock()
	if masks {
		_, err := s.do(ctx, maskWrite(p.addr, binary.BigEndian.Uint16(mask), binary.BigEndian.Uint16(data)), true)
		switch {
		case isException(err, illegalFunction):
			s.set(&s.noMask)
		case isMute(err): // or it is only away: then reading and writing, which is not one step, must not take FC 22's place
			return fmt.Errorf("%w (bits are written with FC 22: if it answers everything else, set maskWrite to false)", err)
		default:
			return err
		}
	}
	if s.config.broadcast {
		return errors.New("some bits of a register cannot be broadcast to devices without FC 22: their other bits are not known")
	}
	whole, err := s.do(ctx, readRequest(p.table, p.addr, p.width), true)
	if err != nil {
		return fmt.Errorf("the register's other bits: %w", err)
	}
	for i := range whole {
		whole[i] = whole[i]&^mask[i] | data[i]
	}
	return s.writeRegisters(ctx, p, whole)
}

// verify reads back what was written. The bits on the wire are compared, not the scaled values, so rounding cannot hide a
// difference nor invent one. mask is which bits count; nil means all.
func (s *session) verify(ctx context.Context, p *point, wrote, mask []byte) device.WriteResult {
	data, err := s.do(ctx, readRequest(p.table, p.addr, p.width), true)
	var ex *exception
	switch {
	case errors.As(err, &ex):
		return device.WriteResult{Readback: device.BadValue(ex.Error(), time.Now())} // accepted, and cannot be read
	case err != nil:
		return device.WriteResult{Err: fmt.Errorf("written, and the read-back failed: %w", err)}
	}
	return s.compare(p, wrote, mask, data, nil)
}

// compare judges what was read back.
func (s *session) compare(p *point, wrote, mask, data []byte, err error) device.WriteResult {
	if err != nil {
		return device.WriteResult{Err: err}
	}
	res := device.WriteResult{Readback: p.value(p.addr, data).At(time.Now())}
	shown := bytes.Clone(data)
	for i := range mask {
		shown[i] &= mask[i]
	}
	if res.Verified = bytes.Equal(shown, wrote); !res.Verified {
		want := p.value(p.addr, wrote)
		res.Err = fmt.Errorf("%w: wrote %s to %s %d, and the device shows %s", device.ErrNotVerified, want.Text(), p.table, p.addr, res.Readback.Text())
	}
	return res
}
