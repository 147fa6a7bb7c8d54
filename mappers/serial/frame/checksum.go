package frame

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Algorithm computes a checksum. The nil Algorithm is none.
type Algorithm interface {
	// Sum is the checksum of p, in the low Size bytes.
	Sum(p []byte) uint64
	// Size is how many bytes the checksum has.
	Size() int
}

// Checksum is where and how a frame carries its checksum: at its end, before Trailer bytes.
type Checksum struct {
	Algorithm Algorithm
	// From is the first byte that it covers; it covers all from there to itself.
	From int
	// Trailer is how many bytes follow the checksum.
	Trailer int
	// Hex tells that it is written in hexadecimal digits, two for each byte.
	Hex bool
	// Little tells that its least significant byte comes first.
	Little bool
}

// size is how many bytes of the frame are not payload.
func (c *Checksum) size() int {
	if c.Algorithm == nil {
		return 0
	}
	n := c.Algorithm.Size()
	if c.Hex {
		n *= 2
	}
	return n + c.Trailer
}

// verify returns the payload of a frame, or false if its checksum is wrong.
func (c *Checksum) verify(frame []byte) ([]byte, bool) {
	if c.Algorithm == nil {
		return frame, true
	}
	at := len(frame) - c.size()
	if at < c.From || at < 0 {
		return nil, false
	}
	got := frame[at : len(frame)-c.Trailer]
	if c.Hex {
		var raw [8]byte
		n, err := hex.Decode(raw[:], got)
		if err != nil {
			return nil, false
		}
		got = raw[:n]
	}
	return frame[:at], getUint(got, c.Little) == c.Algorithm.Sum(frame[c.From:at])
}

// appendTo appends the checksum to a payload. A trailer is filled with zeros: it is the device's.
func (c *Checksum) appendTo(payload []byte) []byte {
	if c.Algorithm == nil {
		return payload
	}
	raw := make([]byte, c.Algorithm.Size())
	putUint(raw, c.Algorithm.Sum(payload[min(c.From, len(payload)):]), c.Little)
	if c.Hex {
		payload = append(payload, strings.ToUpper(hex.EncodeToString(raw))...)
	} else {
		payload = append(payload, raw...)
	}
	return append(payload, make([]byte, c.Trailer)...)
}

type simple struct {
	size int
	sum  func(p []byte) uint64
}

func (s simple) Sum(p []byte) uint64 { return s.sum(p) }
func (s simple) Size() int           { return s.size }

func xor(p []byte) uint64 {
	var x byte
	for _, b := range p {
		x ^= b
	}
	return uint64(x)
}

func add(p []byte) uint64 {
	var n uint64
	for _, b := range p {
		n += uint64(b)
	}
	return n
}

// CRC is an algorithm of the parametrised ("Rocksoft") model.
type CRC struct {
	Width  int // 8 to 32, whole bytes
	Poly   uint64
	Init   uint64
	RefIn  bool // bytes enter least significant bit first
	RefOut bool
	XorOut uint64
}

// Size implements Algorithm.
func (c CRC) Size() int { return c.Width / 8 }

// Sum implements Algorithm, bit by bit: lines are slow, and tables for every polynomial are not.
func (c CRC) Sum(p []byte) uint64 {
	top, mask := uint64(1)<<(c.Width-1), uint64(1)<<c.Width-1
	r := c.Init
	for _, b := range p {
		if c.RefIn {
			b = bits.Reverse8(b)
		}
		r ^= uint64(b) << (c.Width - 8)
		for range 8 {
			if r&top != 0 {
				r = r<<1 ^ c.Poly
			} else {
				r <<= 1
			}
		}
		r &= mask
	}
	if c.RefOut {
		r = bits.Reverse64(r) >> (64 - c.Width)
	}
	return (r ^ c.XorOut) & mask
}

// Find returns the algorithm of a name: xor, sum8, sum16, sum32, lrc (the two's complement of sum8, as in Modbus ASCII), neg-sum16, a
// name of the CRC catalogue, e.g. "CRC-16/MODBUS" (case and all but letters and digits are ignored), or the catalogue's notation,
// "width=16 poly=0x1021 init=0xffff refin=false refout=false xorout=0x0000".
func Find(name string) (Algorithm, error) {
	if strings.Contains(name, "=") {
		return parseCRC(name)
	}
	switch word := plainName(name); word {
	case "xor", "bcc", "xor8":
		return simple{1, xor}, nil
	case "sum", "sum8":
		return simple{1, func(p []byte) uint64 { return add(p) & 0xFF }}, nil
	case "lrc":
		return simple{1, func(p []byte) uint64 { return -add(p) & 0xFF }}, nil
	case "sum16":
		return simple{2, func(p []byte) uint64 { return add(p) & 0xFFFF }}, nil
	case "negsum16":
		return simple{2, func(p []byte) uint64 { return -add(p) & 0xFFFF }}, nil
	case "sum32":
		return simple{4, func(p []byte) uint64 { return add(p) & 0xFFFFFFFF }}, nil
	default:
		for _, e := range catalogue() {
			for _, n := range e.names {
				if plainName(n) == word {
					return e.crc, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("%q is not a known checksum", name)
}

func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

func parseCRC(text string) (Algorithm, error) {
	var c CRC
	for _, field := range strings.Fields(text) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch strings.ToLower(key) {
		case "width":
			c.Width, err = strconv.Atoi(value)
		case "poly":
			c.Poly, err = strconv.ParseUint(value, 0, 32)
		case "init":
			c.Init, err = strconv.ParseUint(value, 0, 32)
		case "xorout":
			c.XorOut, err = strconv.ParseUint(value, 0, 32)
		case "refin":
			c.RefIn, err = strconv.ParseBool(value)
		case "refout":
			c.RefOut, err = strconv.ParseBool(value)
		case "check", "residue", "name":
		default:
			return nil, fmt.Errorf("%q is not a parameter of a CRC", key)
		}
		if err != nil {
			return nil, fmt.Errorf("%q cannot be read", field)
		}
	}
	if c.Width < 8 || c.Width > 32 || c.Width%8 != 0 {
		return nil, fmt.Errorf("a CRC of %d bits: 8, 16, 24 or 32 is possible", c.Width)
	}
	if mask := uint64(1)<<c.Width - 1; c.Poly&^mask|c.Init&^mask|c.XorOut&^mask != 0 || c.Poly == 0 {
		return nil, fmt.Errorf("poly, init or xorout has more than %d bits, or poly is missing", c.Width)
	}
	return c, nil
}
