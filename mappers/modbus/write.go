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

// Write implements device.Session: FC 5 and 6 for one coil or register, FC 16 for values of several, and FC 15 or 16 where
// a device does not know FC 5 or 6. Writes and their read-back go ahead of reads.
func (s *session) Write(ctx context.Context, writes []device.Write) []device.WriteResult {
	out := make([]device.WriteResult, len(writes))
	for i, w := range writes {
		p, ok := w.Point.(*point)
		if !ok {
			out[i].Err = fmt.Errorf("modbus: point %d is a %T, which another driver compiled", i, w.Point)
			continue
		}
		out[i] = s.writeOne(ctx, p, w.Value)
	}
	return out
}

func (s *session) writeOne(ctx context.Context, p *point, v device.Value) device.WriteResult {
	r, err := p.write(v)
	if err != nil {
		return device.WriteResult{Err: err}
	}
	_, err = s.do(ctx, r, true)
	var ex *exception
	if errors.As(err, &ex) && ex.code == modbus.ExceptionCodeIllegalFunction {
		if many := r.asMultiple(); many != nil {
			_, err = s.do(ctx, many, true)
		}
	}
	if err != nil {
		return device.WriteResult{Err: err}
	}
	if !p.readBack {
		return device.WriteResult{}
	}
	return s.verify(ctx, p, r)
}

// verify reads back what r wrote. The bits on the wire are compared, not the scaled values, so rounding cannot hide a
// difference nor invent one.
func (s *session) verify(ctx context.Context, p *point, r *request) device.WriteResult {
	read := readRequest(p.table, p.addr, p.width)
	data, err := s.do(ctx, read, true)
	var ex *exception
	switch {
	case errors.As(err, &ex):
		return device.WriteResult{Readback: device.BadValue(ex.Error(), time.Now())} // accepted, and cannot be read
	case err != nil:
		return device.WriteResult{Err: fmt.Errorf("written, and the read-back failed: %w", err)}
	}
	res := device.WriteResult{Readback: p.value(p.addr, data).At(time.Now())}
	if res.Verified = bytes.Equal(data, r.written()); !res.Verified {
		want := p.value(p.addr, r.written())
		res.Err = fmt.Errorf("%w: wrote %s to %s %d, and the device shows %s", device.ErrNotVerified, want.Text(), p.table, p.addr, res.Readback.Text())
	}
	return res
}

// written returns what a write put into the table, in the form in which a read returns it.
func (r *request) written() []byte {
	data := r.pdu.Data
	switch r.pdu.FunctionCode {
	case modbus.FuncCodeWriteSingleCoil:
		return []byte{data[2] & 1}
	case modbus.FuncCodeWriteSingleRegister:
		return data[2:]
	default:
		return data[5:]
	}
}

// asMultiple returns the same write with FC 15 or 16; nil if it is one already.
func (r *request) asMultiple() *request {
	head := append(bytes.Clone(r.pdu.Data[:2]), 0, 1) // address, quantity 1
	out := &request{table: r.table, addr: r.addr, quantity: 1, echo: head}
	switch r.pdu.FunctionCode {
	case modbus.FuncCodeWriteSingleCoil:
		out.pdu = modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteMultipleCoils, Data: append(bytes.Clone(head), 1, r.pdu.Data[2]&1)}
	case modbus.FuncCodeWriteSingleRegister:
		data := append(bytes.Clone(head), 2)
		out.pdu = modbus.ProtocolDataUnit{FunctionCode: modbus.FuncCodeWriteMultipleRegisters,
			Data: binary.BigEndian.AppendUint16(data, binary.BigEndian.Uint16(r.pdu.Data[2:]))}
	default:
		return nil
	}
	return out
}
