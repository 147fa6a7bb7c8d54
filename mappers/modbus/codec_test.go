package modbus

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

func TestLayouts(t *testing.T) {
	for name, c := range map[string]struct {
		f    format
		o    order
		s    float64
		regs []byte
		text string
	}{
		"negative int16":                   {formatInt16, order{}, 1, []byte{0xFF, 0xFE}, "-2"},
		"int16, bytes swapped":             {formatInt16, order{swapBytes: true}, 1, []byte{0xFE, 0xFF}, "-2"},
		"uint16":                           {formatUint16, order{}, 1, []byte{0xFF, 0xFE}, "65534"},
		"int32 ABCD":                       {formatInt32, order{}, 1, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "-2"},
		"int32 CDAB":                       {formatInt32, order{swapWords: true}, 1, []byte{0x56, 0x78, 0x12, 0x34}, "305419896"},
		"int32 BADC":                       {formatInt32, order{swapBytes: true}, 1, []byte{0x34, 0x12, 0x78, 0x56}, "305419896"},
		"int32 DCBA":                       {formatInt32, order{true, true}, 1, []byte{0x78, 0x56, 0x34, 0x12}, "305419896"},
		"uint32":                           {formatUint32, order{}, 1, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "4294967294"},
		"int64 CDAB":                       {formatInt64, order{swapWords: true}, 1, []byte{7, 8, 5, 6, 3, 4, 1, 2}, "72623859790382856"},
		"uint64":                           {formatUint64, order{}, 1, bytes.Repeat([]byte{0xFF}, 8), "18446744073709551615"},
		"float32":                          {formatFloat32, order{}, 1, []byte{0x41, 0xAC, 0, 0}, "21.5"},
		"float32 prints its own digits":    {formatFloat32, order{}, 1, []byte{0x3D, 0xCC, 0xCC, 0xCD}, "0.1"},
		"float64":                          {formatFloat64, order{}, 1, []byte{0x40, 0x35, 0x80, 0, 0, 0, 0, 0}, "21.5"},
		"scale 0.1 without rounding noise": {formatInt16, order{}, 0.1, []byte{0, 215}, "21.5"},
		"scale 0.1 of a negative":          {formatInt16, order{}, 0.1, []byte{0xFF, 0x9C}, "-10"},
		"scale 10":                         {formatUint16, order{}, 10, []byte{0, 3}, "30"},
		"a missing scale leaves the value": {formatInt16, order{}, 0, []byte{0, 3}, "3"},
		"boolean register":                 {formatBool, order{}, 1, []byte{0, 2}, "true"},
	} {
		s := scale{}
		if c.s != 0 {
			s = newScale(c.s)
		}
		v := decode(c.f, c.o, s, c.regs)
		if v.Text() != c.text || v.Quality != device.Good {
			t.Errorf("%s: decode gives %s (%s), want %s", name, v.Text(), v.Quality, c.text)
		}
		if c.f == formatBool {
			continue // 2 is true too
		}
		back, err := encode(c.f, c.o, s, v)
		if err != nil || !bytes.Equal(back, c.regs) {
			t.Errorf("%s: encode gives % x, %v; want % x", name, back, err, c.regs)
		}
	}
}

func TestNotANumberIsUncertain(t *testing.T) {
	v := decode(formatFloat32, order{}, newScale(1), []byte{0x7F, 0xC0, 0, 0})
	if v.Quality != device.Uncertain || v.Reason == "" {
		t.Errorf("NaN is %s, reason %q", v.Quality, v.Reason)
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		f    format
		s    float64
		v    device.Value
		want string
	}{
		"int16 too large":    {formatInt16, 1, device.Int(32768), "does not fit int16 (-32768 to 32767)"},
		"uint16 negative":    {formatUint16, 1, device.Int(-1), "does not fit uint16 (0 to 65535)"},
		"uint32 too large":   {formatUint32, 1, device.Int(1 << 32), "does not fit uint32"},
		"int64 too large":    {formatInt64, 1, device.Uint(1 << 63), "does not fit int64"},
		"scaled":             {formatInt16, 0.1, device.Float(4000), "does not fit int16 at scale 0.1 (-3276.8 to 3276.7)"},
		"float32 too large":  {formatFloat32, 1, device.Float(1e300), "does not fit float32"},
		"float64 too large":  {formatFloat64, 0.1, device.Float(1e308), "does not fit float64"},
		"text":               {formatInt16, 1, device.String("x"), "is not a number"},
		"NaN into an int":    {formatInt16, 1, device.Float(math.NaN()), "does not fit"},
		"number into a bool": {formatBool, 1, device.Int(5), "not true or false"},
	} {
		if _, err := encode(c.f, order{}, newScale(c.s), c.v); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func FuzzDecodeEncode(f *testing.F) {
	f.Add(uint8(formatInt16), uint8(0), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, ft, ot uint8, raw []byte) {
		layout := format(ft%uint8(formatFloat64)) + 1
		n := 2 * int(layout.registers())
		if len(raw) < n || layout == formatBool {
			return
		}
		o := order{swapWords: ot&1 != 0, swapBytes: ot&2 != 0}
		v := decode(layout, o, scale{}, raw[:n])
		if v.Quality != device.Good {
			return // NaN has many encodings
		}
		back, err := encode(layout, o, scale{}, v)
		if err != nil || !bytes.Equal(back, raw[:n]) {
			t.Errorf("%s %+v: % x became %s became % x, %v", layout, o, raw[:n], v.Text(), back, err)
		}
	})
}
