package simulator

import (
	"encoding/binary"
	"math"
	"time"
)

// Exceptions (Application Protocol V1.1b3, section 7).
const (
	illegalFunction = 1
	illegalAddress  = 2
	illegalValue    = 3
	deviceFailure   = 4
)

// tables by function code.
var tables = map[byte]string{1: "coil", 2: "discrete", 3: "holding", 4: "input", 5: "coil", 6: "holding", 15: "coil", 16: "holding"}

// answer returns the PDU of the reply to a request's PDU, nil if the device does not answer, and how long it takes.
func (d *Device) answer(pdu []byte) ([]byte, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(pdu) == 0 || d.fault.Kind == Mute {
		return nil, 0
	}
	if d.fault.Kind == Exception {
		code := d.fault.Code
		if code == 0 {
			code = deviceFailure
		}
		return []byte{pdu[0] | 0x80, byte(code)}, 0
	}
	d.move(time.Now())
	reply, exception := d.carryOut(pdu)
	if exception != 0 {
		reply = []byte{pdu[0] | 0x80, exception}
	}
	return reply, d.fault.delay()
}

func (d *Device) carryOut(pdu []byte) (reply []byte, exception byte) {
	fc := pdu[0]
	table, known := tables[fc]
	switch {
	case !known:
		return nil, illegalFunction
	case len(pdu) < 5:
		return nil, illegalValue
	}
	addr, n := int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	switch fc {
	case 1, 2:
		return d.readBits(fc, table, addr, n)
	case 3, 4:
		return d.readRegisters(fc, table, addr, n)
	case 5:
		if n != 0 && n != 0xFF00 {
			return nil, illegalValue
		}
		return pdu[:5], d.write(table, addr, []uint16{uint16(n)})
	case 6:
		return pdu[:5], d.write(table, addr, []uint16{uint16(n)})
	}
	words, ok := written(fc, n, pdu[5:])
	if !ok {
		return nil, illegalValue
	}
	return pdu[:5], d.write(table, addr, words)
}

// written returns the values of a request to write several, one word for each.
func written(fc byte, n int, data []byte) ([]uint16, bool) {
	size := 2 * n
	if fc == 15 {
		size = (n + 7) / 8
	}
	if n == 0 || size > 250 || len(data) != 1+size || int(data[0]) != size {
		return nil, false
	}
	words := make([]uint16, n)
	for i := range words {
		if fc == 15 {
			words[i] = uint16(data[1+i/8] >> (i % 8) & 1)
		} else {
			words[i] = binary.BigEndian.Uint16(data[1+2*i:])
		}
	}
	return words, true
}

func (d *Device) readBits(fc byte, table string, addr, n int) ([]byte, byte) {
	if n == 0 || n > 2000 {
		return nil, illegalValue
	}
	out := make([]byte, 2+(n+7)/8)
	out[0], out[1] = fc, byte((n+7)/8)
	for i := range n {
		p := d.find(table, addr+i)
		if p.point == nil {
			return nil, illegalAddress
		}
		if p.value != 0 {
			out[2+i/8] |= 1 << (i % 8)
		}
	}
	return out, 0
}

func (d *Device) readRegisters(fc byte, table string, addr, n int) ([]byte, byte) {
	if n == 0 || n > 125 {
		return nil, illegalValue
	}
	out := []byte{fc, byte(2 * n)}
	for i := range n {
		p := d.find(table, addr+i)
		if p.point == nil {
			return nil, illegalAddress
		}
		out = binary.BigEndian.AppendUint16(out, p.words()[p.word])
	}
	return out, 0
}

// write changes points, all or none.
func (d *Device) write(table string, addr int, words []uint16) byte {
	for i := range words {
		if p := d.find(table, addr+i); p.point == nil || !p.Writable {
			return illegalAddress
		}
	}
	for i, w := range words {
		p := d.find(table, addr+i)
		all := p.words()
		all[p.word] = w
		p.take(all)
	}
	return 0
}

// words encodes a value as registers, the most significant first.
func (p *point) words() []uint16 {
	var bits uint64
	n := widths[p.Type]
	switch p.Type {
	case "bool":
		if p.value != 0 {
			bits = 1
		}
	case "float32":
		bits = uint64(math.Float32bits(float32(p.value)))
	case "float64":
		bits = math.Float64bits(p.value)
	default:
		bits = uint64(int64(math.Round(p.value)))
	}
	out := make([]uint16, n)
	for i := range out {
		out[i] = uint16(bits >> (16 * (n - 1 - i)))
	}
	return out
}

// take is the inverse of words.
func (p *point) take(words []uint16) {
	var bits uint64
	for _, w := range words {
		bits = bits<<16 | uint64(w)
	}
	switch p.Type {
	case "bool":
		p.value = 0
		if bits != 0 {
			p.value = 1
		}
	case "float32":
		p.value = float64(math.Float32frombits(uint32(bits)))
	case "float64":
		p.value = math.Float64frombits(bits)
	case "int16":
		p.value = float64(int16(bits))
	case "int32":
		p.value = float64(int32(bits))
	case "int64":
		p.value = float64(int64(bits))
	default:
		p.value = float64(bits)
	}
}
