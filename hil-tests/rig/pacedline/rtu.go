package pacedline

import "encoding/binary"

// RTUSize is Options.Size for Modbus RTU.
func RTUSize(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case 15, 16:
		if len(b) < 7 {
			return 0
		}
		return 9 + int(b[6])
	case 22:
		return 10
	case 23:
		if len(b) < 11 {
			return 0
		}
		return 13 + int(b[10])
	}
	return 8
}

// RTUAnswer is Options.Answer for Modbus RTU: answer is given unit and PDU, and appends the reply's PDU. A request whose CRC is wrong, and
// one that answer says nothing to, has no reply.
func RTUAnswer(answer func(dst []byte, unit byte, pdu []byte) []byte) func(dst, request []byte) []byte {
	return func(dst, request []byte) []byte {
		n := len(request)
		if CRC(request) != 0 {
			return dst
		}
		at := len(dst)
		dst = answer(append(dst, request[0]), request[0], request[1:n-2])
		if len(dst) == at+1 {
			return dst[:at]
		}
		return binary.LittleEndian.AppendUint16(dst, CRC(dst[at:]))
	}
}

// CRC is the CRC of Serial Line V1.02, section 6.2.2; over a frame with its CRC it is 0.
func CRC(b []byte) uint16 {
	c := uint16(0xFFFF)
	for _, x := range b {
		c ^= uint16(x)
		for range 8 {
			if c&1 != 0 {
				c = c>>1 ^ 0xA001
			} else {
				c >>= 1
			}
		}
	}
	return c
}
