package channel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"
)

// chunks cuts a message into secured chunks.
func (c *Channel) chunks(kind string, body []byte, request, id uint32, t *token) ([][]byte, error) {
	if kind == "OPN" {
		b := binary.LittleEndian.AppendUint32(appendHeader(nil, kind, 'F'), id)
		b = appendText(b, c.sec.Policy)
		if c.sec.secured() {
			b = appendBytes(appendBytes(b, c.sec.Certificate), thumbprint(c.sec.Remote))
		} else {
			b = appendBytes(appendBytes(b, nil), nil)
		}
		head := len(b)
		b = binary.LittleEndian.AppendUint32(b, c.nextSequence())
		b = append(binary.LittleEndian.AppendUint32(b, request), body...)
		b, err := protect(c.asym, b, head, c.sec.secured(), c.sec.secured())
		return [][]byte{b}, err
	}
	if t == nil {
		return nil, errors.New("the channel is not open")
	}
	size := c.bodySize(t)
	if n := (len(body) + size - 1) / size; c.peer.chunkCount > 0 && n > c.peer.chunkCount {
		return nil, fmt.Errorf("the request takes %d chunks and the server takes %d: %w", n, c.peer.chunkCount, ua.StatusBadRequestTooLarge)
	}
	var out [][]byte
	for len(body) > 0 {
		part, last := body[:min(size, len(body))], byte('C')
		if body = body[len(part):]; len(body) == 0 {
			last = 'F'
		}
		b := make([]byte, 0, symmetricEnd+sequenceSize+len(part)+64)
		b = binary.LittleEndian.AppendUint32(appendHeader(b, kind, last), id)
		b = binary.LittleEndian.AppendUint32(b, t.id)
		b = binary.LittleEndian.AppendUint32(b, c.nextSequence())
		b = append(binary.LittleEndian.AppendUint32(b, request), part...)
		b, err := protect(t.algo, b, symmetricEnd, c.sec.secured(), c.sec.Mode == ua.MessageSecurityModeSignAndEncrypt)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// bodySize is how much of a message fits one chunk.
func (c *Channel) bodySize(t *token) int {
	n := c.peer.chunk - symmetricEnd
	switch c.sec.Mode {
	case ua.MessageSecurityModeSignAndEncrypt:
		n = n/t.algo.BlockSize()*t.algo.PlaintextBlockSize() - t.algo.SignatureLength() - 1
	case ua.MessageSecurityModeSign:
		n -= t.algo.SignatureLength()
	}
	return n - sequenceSize
}
