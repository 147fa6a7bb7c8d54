package modbus

import (
	"encoding/binary"
	"fmt"
)

// Sizes of the MBAP header and of a whole ADU (Messaging on TCP/IP V1.0b, section 3.1.3).
const (
	headerSize = 7   // transaction, protocol, length (2 bytes each), unit
	maxADU     = 260 // header and a PDU of 253 bytes
	maxPDU     = maxADU - headerSize
)

// frameError is a reply that is not the answer to the request. The connection cannot be trusted after it.
type frameError struct{ what string }

func (e *frameError) Error() string { return "bad reply: " + e.what }

func badFrame(format string, args ...any) error {
	return &frameError{what: fmt.Sprintf(format, args...)}
}

// replyLength checks the header of a reply against the request's and returns how many bytes of PDU follow it. Nothing is
// allocated for a length that a peer merely claims.
func replyLength(request, header []byte) (int, error) {
	if len(request) < headerSize || len(header) < headerSize {
		return 0, badFrame("the header has %d bytes instead of %d", len(header), headerSize)
	}
	if got, want := binary.BigEndian.Uint16(header), binary.BigEndian.Uint16(request); got != want {
		return 0, badFrame("transaction id %d instead of %d", got, want)
	}
	if got := binary.BigEndian.Uint16(header[2:]); got != 0 {
		return 0, badFrame("protocol id %d instead of 0: the peer does not speak Modbus", got)
	}
	// The length counts the unit id, which the header already holds, and at least a function code.
	length := int(binary.BigEndian.Uint16(header[4:])) - 1
	if length < 1 || length > maxPDU {
		return 0, badFrame("a PDU of %d bytes; a PDU has 1 to %d", length, maxPDU)
	}
	if header[6] != request[6] {
		return 0, badFrame("unit %d answered instead of unit %d", header[6], request[6])
	}
	return length, nil
}
