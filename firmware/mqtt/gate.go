package mqtt

import "errors"

// maxConnect bounds the first packet of a connection: nobody has proved who he is then. A client identifier, a user name, a token and a will fit.
const maxConnect = 16 << 10

const packetConnect = 0x10 // CONNECT with its reserved flags (MQTT 3.1.1, 3.1)

var errGate = errors.New("the first packet is no CONNECT, or too large")

// gate looks at the fixed header of a connection's first packet as the bytes pass (MQTT 3.1.1, 2.2).
type gate struct {
	seen   int // bytes of the header
	length int
	open   bool
}

func (g *gate) pass(b []byte) error {
	for _, c := range b {
		switch {
		case g.open:
			return nil
		case g.seen == 0 && c != packetConnect, g.seen > 4:
			return errGate
		case g.seen > 0:
			g.length |= int(c&0x7f) << (7 * (g.seen - 1))
			if g.length > maxConnect {
				return errGate
			}
			g.open = c&0x80 == 0
		}
		g.seen++
	}
	return nil
}
