package packets

import (
	"encoding/binary"
	"testing"
)

// packet is an IPv4 header of the given length (RFC 791) with a protocol number, and the ports that follow it.
func packet(header, length int, protocol byte, from, to uint16) []byte {
	b := make([]byte, header+20)
	b[0], b[9] = 4<<4|byte(header/4), protocol
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	binary.BigEndian.PutUint16(b[header:], from)
	binary.BigEndian.PutUint16(b[header+2:], to)
	return b
}

func TestTCPSize(t *testing.T) {
	const tcp, udp = 6, 17
	v6 := packet(20, 52, tcp, 7443, 40000)
	v6[0] = 6 << 4
	for name, c := range map[string]struct {
		packet []byte
		size   int
	}{
		"to the port":       {packet(20, 52, tcp, 40000, 7443), 52},
		"from the port":     {packet(20, 1500, tcp, 7443, 40000), 1500},
		"with options":      {packet(24, 60, tcp, 40000, 7443), 60},
		"of another port":   {packet(20, 52, tcp, 40000, 443), 0},
		"not TCP":           {packet(20, 52, udp, 40000, 7443), 0},
		"IPv6":              {v6, 0},
		"too short":         {packet(20, 52, tcp, 40000, 7443)[:19], 0},
		"without its ports": {packet(20, 52, tcp, 40000, 7443)[:22], 0},
	} {
		size, ok := tcpSize(c.packet, 7443)
		if size != c.size || ok != (c.size > 0) {
			t.Errorf("%s: %d bytes, %v, want %d", name, size, ok, c.size)
		}
	}
}
