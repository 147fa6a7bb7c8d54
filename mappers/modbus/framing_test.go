package modbus

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goburrow/modbus"
)

// reply packs a reply as goburrow's packagers, which are not ours, do.
func reply(t testing.TB, f framing, unit byte, pdu []byte) []byte {
	t.Helper()
	b, err := f.encode(unit, &modbus.ProtocolDataUnit{FunctionCode: pdu[0], Data: pdu[1:]})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		size  int
		err   string
	}{
		"right":              {[]byte{0, 7, 0, 0, 0, 4, 1, 3, 1, 2}, 10, ""},
		"with a second one":  {[]byte{0, 7, 0, 0, 0, 3, 1, 3, 1, 0, 8}, 9, ""},
		"not whole":          {[]byte{0, 7, 0, 0, 0, 4, 1, 3, 1}, 0, ""},
		"header not whole":   {[]byte{0, 7, 0, 0, 0}, 0, ""},
		"not Modbus":         {[]byte("HTTP"), 0, "does not speak Modbus"},
		"zero length":        {[]byte{0, 7, 0, 0, 0, 0, 1}, 0, "-1 bytes"},
		"no function":        {[]byte{0, 7, 0, 0, 0, 1, 1}, 0, "0 bytes"},
		"too long":           {[]byte{0, 7, 0, 0, 0, 255, 1}, 0, "254 bytes"},
		"as long as can be":  {append([]byte{0, 7, 0, 0, 0, 254, 1}, make([]byte, 253)...), 260, ""},
		"longer than memory": {[]byte{0, 7, 0, 0, 255, 255, 1}, 0, "65534 bytes"},
	} {
		m, err := scanTCP(c.frame)
		if m.size != c.size || c.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestSerialFrames(t *testing.T) {
	read := []byte{3, 4, 1, 2, 3, 4}
	identity := []byte{43, 14, 1, 1, 0, 0, 2, 0, 3, 'A', 'B', 'C', 1, 0}
	rtu, ascii := reply(t, framingRTU, 5, read), reply(t, framingASCII, 5, read)
	damaged := slices.Clone(rtu)
	damaged[4] ^= 1
	other := reply(t, framingRTU, 6, read)
	// The example of Serial Line V1.02, appendix B: 02 07 has CRC 12 41 on the wire as 41 12.
	if got := crc16([]byte{2, 7}); got != 0x1241 {
		t.Errorf("CRC %04x", got)
	}
	for name, c := range map[string]struct {
		f    framing
		buf  []byte
		fc   byte
		pdu  []byte
		size int
		err  string
	}{
		"RTU":                           {framingRTU, rtu, 3, read, len(rtu), ""},
		"RTU, not whole":                {framingRTU, rtu[:len(rtu)-1], 3, nil, 0, ""},
		"RTU after a glitch":            {framingRTU, append([]byte{0, 0xFF}, rtu...), 3, read, len(rtu) + 2, ""},
		"RTU after another's reply":     {framingRTU, append(slices.Clone(other), rtu...), 3, read, len(other) + len(rtu), ""},
		"RTU, damaged":                  {framingRTU, damaged, 3, nil, 0, "CRC"},
		"RTU exception":                 {framingRTU, reply(t, framingRTU, 5, []byte{0x83, 2}), 3, []byte{0x83, 2}, 5, ""},
		"RTU, endless count":            {framingRTU, []byte{5, 3, 255}, 3, nil, 0, "at most 256"},
		"RTU echo of a write":           {framingRTU, reply(t, framingRTU, 5, []byte{6, 0, 1, 0, 3}), 6, []byte{6, 0, 1, 0, 3}, 8, ""},
		"RTU mask write":                {framingRTU, reply(t, framingRTU, 5, []byte{22, 0, 1, 0, 3, 0, 4}), 22, []byte{22, 0, 1, 0, 3, 0, 4}, 10, ""},
		"RTU identification":            {framingRTU, reply(t, framingRTU, 5, identity), 43, identity, len(identity) + 3, ""},
		"RTU identification, not whole": {framingRTU, reply(t, framingRTU, 5, identity)[:10], 43, nil, 0, ""},
		"ASCII":                         {framingASCII, ascii, 3, read, len(ascii), ""},
		"ASCII, not whole":              {framingASCII, ascii[:len(ascii)-1], 3, nil, 0, ""},
		"ASCII begun anew":              {framingASCII, append([]byte(":0503"), ascii...), 3, read, len(ascii) + 5, ""},
		"ASCII after an end":            {framingASCII, append([]byte("04\r\n"), ascii...), 3, read, len(ascii) + 4, ""},
		"ASCII after another's reply":   {framingASCII, append(reply(t, framingASCII, 6, read), ascii...), 3, read, 2 * len(ascii), ""},
		"ASCII, wrong LRC":              {framingASCII, []byte(":050302000AEE\r\n"), 3, nil, 0, "LRC"},
		"ASCII, no digits":              {framingASCII, []byte(":05XX\r\n"), 3, nil, 0, "hexadecimal"},
		"ASCII, too short":              {framingASCII, []byte(":05\r\n"), 3, nil, 0, "hexadecimal"},
	} {
		buf := slices.Clone(c.buf)
		var pdu []byte
		var size int
		var err error
		if c.f == framingRTU {
			pdu, size, err = scanRTU(buf, 5, c.fc)
		} else {
			pdu, size, err = scanASCII(buf, 5)
		}
		if !bytes.Equal(pdu, c.pdu) || size != c.size || c.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: % x, %d, %v; want % x, %d, %q", name, pdu, size, err, c.pdu, c.size, c.err)
		}
	}
}

// TestFramesComeByteWise: whatever the packagers make is found, and no sooner than it is whole.
func TestFramesComeByteWise(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		n := 2 * (1 + r.IntN(125))
		pdu := append([]byte{3, byte(n)}, make([]byte, n)...)
		for i := range n {
			pdu[2+i] = byte(r.Uint32())
		}
		unit := byte(r.IntN(248))
		for _, f := range []framing{framingTCP, framingRTU, framingASCII} {
			frame := reply(t, f, unit, pdu)
			for cut := max(len(frame)-3, 1); cut <= len(frame); cut++ {
				buf := slices.Clone(frame[:cut])
				var got []byte
				var err error
				switch f {
				case framingTCP:
					var m mbap
					m, err = scanTCP(buf)
					got = m.pdu
				case framingRTU:
					got, _, err = scanRTU(buf, unit, 3)
				case framingASCII:
					got, _, err = scanASCII(buf, unit)
				}
				if err != nil || (cut == len(frame)) != (got != nil) || got != nil && !bytes.Equal(got, pdu) {
					t.Fatalf("%s: %d of %d bytes give % x, %v", f, cut, len(frame), got, err)
				}
			}
		}
	}
}

// FuzzFrames: arbitrary bytes never make a scanner panic, claim more than there is, or accept data of another size than asked for.
func FuzzFrames(f *testing.F) {
	f.Add(uint8(0), uint8(1), uint16(2), []byte{0, 7, 0, 0, 0, 7, 1, 3, 4, 1, 2, 3, 4})
	f.Add(uint8(1), uint8(1), uint16(2), []byte{1, 3, 4, 1, 2, 3, 4, 0, 0})
	f.Add(uint8(2), uint8(1), uint16(9), []byte(":010304010203040\r\n"))
	ident, _ := hex.DecodeString("012b0e010100000200034142430100")
	f.Add(uint8(1), uint8(9), uint16(2), ident)
	f.Fuzz(func(t *testing.T, ft, what uint8, n uint16, buf []byte) {
		r := readRequest(table(what%4), 0, n%2000+1)
		if what > 200 {
			r = identify(1, 0)
		}
		var pdu []byte
		var size int
		var err error
		switch framing(ft % 3) {
		case framingTCP:
			var m mbap
			m, err = scanTCP(buf)
			pdu, size = m.pdu, m.size
		case framingRTU:
			pdu, size, err = scanRTU(buf, 1, r.pdu.FunctionCode)
		case framingASCII:
			pdu, size, err = scanASCII(buf, 1)
		}
		var frame *frameError
		if size < 0 || size > len(buf) || err != nil && (size != 0 || !errors.As(err, &frame)) || len(pdu) > maxPDU {
			t.Fatalf("size %d of %d, PDU of %d, %v", size, len(buf), len(pdu), err)
		}
		if size == 0 {
			return
		}
		data, err := r.check(pdu)
		if err == nil && r.want >= 0 && len(data) != r.want {
			t.Fatalf("%d bytes accepted for %s", len(data), r)
		}
	})
}
