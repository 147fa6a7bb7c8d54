package modbus

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/goburrow/modbus"
)

// framing is how a transport puts a PDU into bytes.
type framing uint8

const (
	framingTCP   framing = iota // MBAP header (Messaging on TCP/IP V1.0b, section 3.1)
	framingRTU                  // unit, PDU, CRC (Serial Line V1.02, section 2.5.1)
	framingASCII                // ':', hexadecimal digits, LRC, CR LF (section 2.5.2)
)

func (f framing) String() string { return [...]string{"TCP", "RTU", "ASCII"}[f] }

// Sizes of frames.
const (
	headerSize = 7 // of MBAP: transaction, protocol, length (2 bytes each), unit
	maxTCP     = headerSize + maxPDU
	maxRTU     = 1 + maxPDU + 2
	maxASCII   = 1 + 2*(1+maxPDU+1) + 2
	// bufSize holds the longest frame twice, so that noise before one does not cost it.
	bufSize = 1024
)

// frameError is a reply that is not the answer to the request. The connection cannot be trusted after it.
type frameError struct{ what string }

func (e *frameError) Error() string { return "bad reply: " + e.what }

func badFrame(format string, args ...any) error {
	return &frameError{what: fmt.Sprintf(format, args...)}
}

// encode packs a PDU for a unit, with goburrow's packagers.
func (f framing) encode(unit byte, pdu *modbus.ProtocolDataUnit) ([]byte, error) {
	switch f {
	case framingRTU:
		var h modbus.RTUClientHandler
		h.SlaveId = unit
		return h.Encode(pdu)
	case framingASCII:
		var h modbus.ASCIIClientHandler
		h.SlaveId = unit
		return h.Encode(pdu)
	default:
		var h modbus.TCPClientHandler
		h.SlaveId = unit
		return h.Encode(pdu)
	}
}

// mbap is the header of a reply over TCP.
type mbap struct {
	transaction uint16
	unit        byte
	pdu         []byte
	size        int // of the frame
}

// scanTCP finds the frame at the start of buf; size is 0 if it is not whole yet. Nothing is allocated for a length that
// a peer merely claims.
func scanTCP(buf []byte) (mbap, error) {
	if len(buf) >= 4 && binary.BigEndian.Uint16(buf[2:]) != 0 {
		return mbap{}, badFrame("protocol id %d instead of 0: the peer does not speak Modbus", binary.BigEndian.Uint16(buf[2:]))
	}
	if len(buf) < headerSize {
		return mbap{}, nil
	}
	// The length counts the unit id, which the header already holds, and at least a function code.
	length := int(binary.BigEndian.Uint16(buf[4:])) - 1
	if length < 1 || length > maxPDU {
		return mbap{}, badFrame("a PDU of %d bytes; a PDU has 1 to %d", length, maxPDU)
	}
	if len(buf) < headerSize+length {
		return mbap{}, nil
	}
	return mbap{transaction: binary.BigEndian.Uint16(buf), unit: buf[6], pdu: buf[headerSize : headerSize+length], size: headerSize + length}, nil
}

// scanRTU finds the reply of a unit to a function in buf; size is 0 if it is not whole yet. Bytes that cannot begin it (a
// glitch when the line turned round, the late reply of another unit) are stepped over.
func scanRTU(buf []byte, unit, function byte) (pdu []byte, size int, err error) {
	for i := range buf {
		if buf[i] != unit || i+1 < len(buf) && buf[i+1]&0x7F != function {
			continue
		}
		frame := buf[i:]
		n, err := rtuSize(frame)
		switch {
		case err != nil:
			return nil, 0, err
		case n == 0 || len(frame) < n:
			return nil, 0, nil
		}
		if got, want := binary.LittleEndian.Uint16(frame[n-2:]), crc16(frame[:n-2]); got != want {
			return nil, 0, badFrame("CRC %04x instead of %04x: the line is disturbed, or two units answer", got, want)
		}
		return frame[1 : n-2], i + n, nil
	}
	return nil, 0, nil
}

// rtuSize says how long the frame at the start of b is, which only its function code and the counts in it tell; 0 if too
// little of it is there.
func rtuSize(b []byte) (int, error) {
	if len(b) < 3 {
		return 0, nil
	}
	if b[1]&0x80 != 0 {
		return 5, nil
	}
	switch b[1] {
	case modbus.FuncCodeReadCoils, modbus.FuncCodeReadDiscreteInputs, modbus.FuncCodeReadHoldingRegisters, modbus.FuncCodeReadInputRegisters, modbus.FuncCodeReadWriteMultipleRegisters:
		if n := 5 + int(b[2]); n <= maxRTU {
			return n, nil
		}
		return 0, badFrame("%d bytes of data are announced, and a frame has at most %d", b[2], maxRTU)
	case modbus.FuncCodeWriteSingleCoil, modbus.FuncCodeWriteSingleRegister, modbus.FuncCodeWriteMultipleCoils, modbus.FuncCodeWriteMultipleRegisters:
		return 8, nil
	case modbus.FuncCodeMaskWriteRegister:
		return 10, nil
	case funcEncapsulated:
		return identitySize(b)
	}
	return 0, badFrame("function %d, which was not asked for", b[1])
}

// identitySize walks over the objects of a device identification.
func identitySize(b []byte) (int, error) {
	const fixed = 8 // unit, function, MEI type, category, conformity, more follows, next object, number of objects
	if len(b) < fixed {
		return 0, nil
	}
	at := fixed
	for range int(b[fixed-1]) {
		if len(b) < at+2 {
			return 0, tooLong(at + 2)
		}
		at += 2 + int(b[at+1])
		if err := tooLong(at); err != nil {
			return 0, err
		}
	}
	return at + 2, tooLong(at)
}

func tooLong(n int) error {
	if n+2 > maxRTU {
		return badFrame("a frame of more than %d bytes", maxRTU)
	}
	return nil
}

// scanASCII finds the reply of a unit in buf; size is 0 if it is not whole yet. pdu is decoded in place. What is before a
// colon, and the frames of other units, are stepped over; a colon within a frame begins it anew (section 2.5.2.1).
func scanASCII(buf []byte, unit byte) (pdu []byte, size int, err error) {
	for at := 0; ; {
		end := bytes.Index(buf[at:], []byte("\r\n"))
		if end < 0 {
			return nil, 0, nil
		}
		start := bytes.LastIndexByte(buf[at:at+end], ':')
		frame := buf[at+max(start, 0) : at+end]
		at += end + 2
		if start < 0 {
			continue // the end of something whose beginning is lost
		}
		frame = frame[1:]
		if len(frame) > maxASCII-3 {
			return nil, 0, badFrame("a frame of more than %d characters", maxASCII)
		}
		if len(frame) >= 2 {
			// Scratch space of its own: buf stays as it is until the whole frame is known to be good.
			var who [1]byte
			if _, err := hex.Decode(who[:], frame[:2]); err == nil && who[0] != unit {
				continue
			}
		}
		n, err := hex.Decode(frame, frame)
		if err != nil || n < 3 {
			return nil, 0, badFrame("%q is not a frame of hexadecimal digits", clip(frame))
		}
		if sum := lrc(frame[:n]); sum != 0 {
			return nil, 0, badFrame("the LRC is wrong by %02x: the line is disturbed, or two units answer", sum)
		}
		return frame[1 : n-1], at, nil
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 32)] }

// lrc adds up a frame and its LRC, which gives 0 if it is right.
func lrc(b []byte) (sum byte) {
	for _, x := range b {
		sum += x
	}
	return sum
}

// crc16 is the CRC of Serial Line V1.02, section 6.2.2: reflected polynomial 0xA001, start 0xFFFF.
func crc16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xA001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}
