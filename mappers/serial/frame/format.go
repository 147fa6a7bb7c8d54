package frame

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Kind is how frames are told apart.
type Kind uint8

// The framings.
const (
	Delimited Kind = iota // a sequence of bytes ends a frame
	Fixed                 // frames have a fixed length
	Counted               // a field of the frame tells its length
	Gap                   // silence ends a frame
	StartStop             // bytes that begin and end a frame, perhaps with escapes in between
	SLIP                  // RFC 1055
)

// Format is a framing with its checksum. See Check for what is allowed.
type Format struct {
	Kind Kind
	// Max is the longest frame, everything between its delimiters. It bounds memory.
	Max int
	// Delimiter ends a Delimited frame.
	Delimiter []byte
	// Length is that of a Fixed frame.
	Length int
	// Offset and Size say where a Counted frame has its length; what follows the field is its value + Adjust bytes long.
	Offset, Size, Adjust int
	// Little tells that the length's least significant byte comes first.
	Little bool
	// Start and Stop are around a StartStop frame. A Fixed or Counted frame begins with Start, if it is given.
	Start, Stop []byte
	// Escape is the byte of a StartStop frame that precedes bytes which would otherwise be taken for something else; only if Escaped.
	// If Stop begins with it (DLE ETX), it is doubled within the frame; otherwise what follows it is XORed with EscapeXor.
	Escaped   bool
	Escape    byte
	EscapeXor byte
	// Checksum is part of every frame; the zero Checksum is none.
	Checksum Checksum
}

// Limits of a Format.
const (
	MaxFrame    = 65535
	MaxSequence = 16 // bytes of a delimiter, start or stop
)

// Check judges a format.
func (f *Format) Check() error {
	switch {
	case f.Max < 1 || f.Max > MaxFrame:
		return fmt.Errorf("frames of %d bytes at most: 1 to %d is allowed", f.Max, MaxFrame)
	case len(f.Delimiter) > MaxSequence || len(f.Start) > MaxSequence || len(f.Stop) > MaxSequence:
		return fmt.Errorf("a delimiter, start or stop has more than %d bytes", MaxSequence)
	}
	switch f.Kind {
	case Delimited:
		if len(f.Delimiter) == 0 {
			return errors.New("a delimiter is needed")
		}
	case Fixed:
		if f.Length < max(1, len(f.Start)) || f.Length > f.Max {
			return fmt.Errorf("a fixed length of %d: %d to %d is allowed", f.Length, max(1, len(f.Start)), f.Max)
		}
	case Counted:
		if !slices.Contains([]int{1, 2, 4}, f.Size) || f.Offset < len(f.Start) || f.Offset+f.Size > f.Max {
			return errors.New("the length field must have 1, 2 or 4 bytes, behind the start and within the longest frame")
		}
		if f.Adjust < -MaxFrame || f.Adjust > MaxFrame {
			return errors.New("the length's adjustment is out of range")
		}
	case StartStop:
		return f.checkStartStop()
	case Gap, SLIP:
	default:
		return errors.New("an unknown framing")
	}
	return nil
}

func (f *Format) checkStartStop() error {
	switch {
	case len(f.Start) == 0 || len(f.Stop) == 0:
		return errors.New("start and stop are needed")
	case !f.Escaped:
	case f.dle() && (len(f.Stop) != 2 || f.Stop[1] == f.Escape):
		return errors.New("a stop that begins with the escape has exactly one more byte, another one")
	case f.Start[0] == f.Escape && (len(f.Start) != 2 || f.Start[1] == f.Escape || bytes.Equal(f.Start, f.Stop)):
		return errors.New("a start that begins with the escape has exactly one more byte, which is neither the escape nor the stop's")
	case !f.dle() && len(f.Stop) != 1:
		return errors.New("with an escape, stop is one byte, or the escape and one byte")
	case !f.dle() && f.Start[0] != f.Escape && len(f.Start) != 1:
		return errors.New("with an escape, start is one byte, or the escape and one byte")
	}
	return nil
}

// dle tells that the escape is part of the stop: DLE ETX, with DLE doubled in between.
func (f *Format) dle() bool { return f.Escaped && len(f.Stop) > 0 && f.Stop[0] == f.Escape }

// Encode puts the envelope around a payload: checksum, length, escapes and delimiters.
func (f *Format) Encode(payload []byte) ([]byte, error) {
	body := bytes.Clone(payload)
	if f.Kind == Counted {
		if err := f.putLength(body); err != nil {
			return nil, err
		}
	}
	body = f.Checksum.appendTo(body)
	if len(body) > f.Max {
		return nil, fmt.Errorf("a frame of %d bytes is longer than %d", len(body), f.Max)
	}
	switch f.Kind {
	case Delimited:
		if bytes.Contains(body, f.Delimiter) {
			return nil, errors.New("the delimiter is part of the text")
		}
		return append(body, f.Delimiter...), nil
	case Fixed:
		if len(body) != f.Length {
			return nil, fmt.Errorf("a frame of %d bytes, and the fixed length is %d", len(body), f.Length)
		}
	case StartStop:
		return f.encodeStartStop(body)
	case SLIP:
		return encodeSLIP(body), nil
	case Counted, Gap:
	}
	return body, nil
}

// putLength fills in the length field for a frame that gets its checksum appended.
func (f *Format) putLength(body []byte) error {
	if len(body) < f.Offset+f.Size {
		return fmt.Errorf("a frame of %d bytes has no room for its length field", len(body))
	}
	n := len(body) + f.Checksum.size() - f.Offset - f.Size - f.Adjust
	if n < 0 || f.Size < 4 && n >= 1<<(8*f.Size) {
		return fmt.Errorf("a length of %d does not fit its field", n)
	}
	putUint(body[f.Offset:f.Offset+f.Size], uint64(n), f.Little)
	return nil
}

func (f *Format) encodeStartStop(body []byte) ([]byte, error) {
	out := bytes.Clone(f.Start)
	for _, b := range body {
		switch {
		case !f.Escaped:
			out = append(out, b)
		case f.dle() && b == f.Escape:
			out = append(out, b, b)
		case !f.dle() && (b == f.Escape || b == f.Stop[0] || b == f.Start[0] || b == f.Start[len(f.Start)-1]):
			out = append(out, f.Escape, b^f.EscapeXor)
		default:
			out = append(out, b)
		}
	}
	if !f.Escaped && bytes.Contains(out[len(f.Start):], f.Stop) {
		return nil, errors.New("the stop is part of the text")
	}
	return append(out, f.Stop...), nil
}

// RFC 1055's special characters.
const (
	slipEnd    = 0xC0
	slipEsc    = 0xDB
	slipEscEnd = 0xDC
	slipEscEsc = 0xDD
)

func encodeSLIP(body []byte) []byte {
	out := []byte{slipEnd} // ends what noise may have begun
	for _, b := range body {
		switch b {
		case slipEnd:
			out = append(out, slipEsc, slipEscEnd)
		case slipEsc:
			out = append(out, slipEsc, slipEscEsc)
		default:
			out = append(out, b)
		}
	}
	return append(out, slipEnd)
}

func getUint(p []byte, little bool) uint64 {
	var n uint64
	for i := range p {
		if little {
			n |= uint64(p[i]) << (8 * i)
		} else {
			n = n<<8 | uint64(p[i])
		}
	}
	return n
}

func putUint(p []byte, n uint64, little bool) {
	for i := range p {
		shift := 8 * i
		if !little {
			shift = 8 * (len(p) - 1 - i)
		}
		p[i] = byte(n >> shift)
	}
}
