package modbus

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// compiled is a visitor's layout.
func compiled(t testing.TB, model device.Type, kv ...any) *point {
	t.Helper()
	m := map[string]any{"register": "holding", "offset": 0}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	p, err := parsePoint(device.PointConfig{Property: "p", Path: "x", Type: model, Writable: true, Visitor: m})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLayouts(t *testing.T) {
	const i, f, d, s, y, o = device.TypeInt, device.TypeFloat, device.TypeDouble, device.TypeString, device.TypeBytes, device.TypeBoolean
	for name, c := range map[string]struct {
		model   device.Type
		visitor []any
		regs    []byte
		text    string
	}{
		"negative int16":                   {i, []any{"type", "int16"}, []byte{0xFF, 0xFE}, "-2"},
		"int16 BA":                         {i, []any{"type", "int16", "byteOrder", "BA"}, []byte{0xFE, 0xFF}, "-2"},
		"uint16":                           {i, []any{"type", "uint16"}, []byte{0xFF, 0xFE}, "65534"},
		"int8 high":                        {i, []any{"type", "int8-high"}, []byte{0xFE, 0}, "-2"},
		"int8 low":                         {i, []any{"type", "int8_low"}, []byte{0, 0xFE}, "-2"},
		"uint8 high":                       {i, []any{"type", "uint8High"}, []byte{0xFE, 0}, "254"},
		"uint8 low, bytes swapped":         {i, []any{"type", "uint8-low", "isSwap", true}, []byte{0xFE, 0}, "254"},
		"int32 ABCD":                       {i, []any{"type", "int32"}, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "-2"},
		"int32 CDAB":                       {i, []any{"type", "int32", "wordOrder", "CDAB"}, []byte{0x56, 0x78, 0x12, 0x34}, "305419896"},
		"int32 BADC":                       {i, []any{"type", "int32", "wordOrder", "BADC"}, []byte{0x34, 0x12, 0x78, 0x56}, "305419896"},
		"int32 DCBA":                       {i, []any{"type", "int32", "wordOrder", "DCBA"}, []byte{0x78, 0x56, 0x34, 0x12}, "305419896"},
		"uint32":                           {i, []any{"type", "uint32"}, []byte{0xFF, 0xFF, 0xFF, 0xFE}, "4294967294"},
		"int64 CDAB is GHEFCDAB":           {i, []any{"type", "int64", "wordOrder", "CDAB"}, []byte{7, 8, 5, 6, 3, 4, 1, 2}, "72623859790382856"},
		"int64 GHEFCDAB":                   {i, []any{"type", "int64", "wordOrder", "GHEFCDAB"}, []byte{7, 8, 5, 6, 3, 4, 1, 2}, "72623859790382856"},
		"int64 BADCFEHG":                   {i, []any{"type", "int64", "wordOrder", "BADCFEHG"}, []byte{2, 1, 4, 3, 6, 5, 8, 7}, "72623859790382856"},
		"int64 HGFEDCBA":                   {i, []any{"type", "int64", "wordOrder", "HGFEDCBA"}, []byte{8, 7, 6, 5, 4, 3, 2, 1}, "72623859790382856"},
		"int64 CDABGHEF":                   {i, []any{"type", "int64", "wordOrder", "CDABGHEF"}, []byte{3, 4, 1, 2, 7, 8, 5, 6}, "72623859790382856"},
		"int64 EFGHABCD":                   {i, []any{"type", "int64", "wordOrder", "EFGHABCD"}, []byte{5, 6, 7, 8, 1, 2, 3, 4}, "72623859790382856"},
		"int64 DCBAHGFE":                   {i, []any{"type", "int64", "wordOrder", "DCBAHGFE"}, []byte{4, 3, 2, 1, 8, 7, 6, 5}, "72623859790382856"},
		"int64 FEHGBADC":                   {i, []any{"type", "int64", "wordOrder", "FEHGBADC"}, []byte{6, 5, 8, 7, 2, 1, 4, 3}, "72623859790382856"},
		"uint64":                           {i, []any{"type", "uint64"}, bytes.Repeat([]byte{0xFF}, 8), "18446744073709551615"},
		"float16":                          {f, []any{"type", "float16"}, []byte{0xC9, 0x00}, "-10"},
		"float16 subnormal":                {d, []any{"type", "float16"}, []byte{0x00, 0x01}, "5.9604645e-08"},
		"float32":                          {f, []any{"type", "float32"}, []byte{0x41, 0xAC, 0, 0}, "21.5"},
		"float32 prints its own digits":    {f, []any{"type", "float32"}, []byte{0x3D, 0xCC, 0xCC, 0xCD}, "0.1"},
		"float64":                          {d, []any{"type", "float64"}, []byte{0x40, 0x35, 0x80, 0, 0, 0, 0, 0}, "21.5"},
		"bcd16":                            {i, []any{"type", "bcd16"}, []byte{0x12, 0x34}, "1234"},
		"bcd32 CDAB":                       {i, []any{"type", "bcd32", "wordOrder", "CDAB"}, []byte{0x56, 0x78, 0x12, 0x34}, "12345678"},
		"bcd64":                            {i, []any{"type", "bcd64"}, []byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56}, "1234567890123456"},
		"bcd16 scaled":                     {f, []any{"type", "bcd16", "scale", 0.01}, []byte{0x12, 0x34}, "12.34"},
		"fixed16 is Q7.8":                  {f, []any{"type", "fixed16"}, []byte{0xFE, 0x80}, "-1.5"},
		"ufixed32":                         {d, []any{"type", "ufixed32"}, []byte{0, 3, 0x40, 0}, "3.25"},
		"Q15":                              {d, []any{"type", "int16", "fractionBits", 15}, []byte{0xC0, 0}, "-0.5"},
		"scale 0.1 without rounding noise": {f, []any{"type", "int16", "scale", 0.1}, []byte{0, 215}, "21.5"},
		"scale 0.1 of a negative":          {f, []any{"type", "int16", "scale", 0.1}, []byte{0xFF, 0x9C}, "-10"},
		"scale 10":                         {i, []any{"type", "uint16", "scale", 10}, []byte{0, 3}, "30"},
		"scale and offset":                 {f, []any{"type", "uint16", "scale", 0.5, "valueOffset", -40}, []byte{0, 100}, "10"},
		"Kelvin as degrees Celsius":        {d, []any{"type", "uint16", "scale", 0.1, "valueOffset", -273.15}, []byte{0x0A, 0xAB}, "-0.05"},
		"a missing scale":                  {i, nil, []byte{0, 3}, "3"},
		"bit 0":                            {o, []any{"bit", 0}, []byte{0, 1}, "true"},
		"bit 15":                           {o, []any{"bit", 15}, []byte{0x80, 0}, "true"},
		"bit 15, bytes swapped":            {o, []any{"bit", 15, "isSwap", true}, []byte{0, 0x80}, "true"},
		"mask and shift":                   {i, []any{"mask", "0x0FF0", "shift", 4}, []byte{0x0A, 0xB0}, "171"},
		"mask of 32 bits":                  {i, []any{"type", "uint32", "mask", 0xFF0000, "shift", 16}, []byte{0, 7, 0, 0}, "7"},
		"masked bool":                      {o, []any{"mask", 6}, []byte{0, 6}, "true"},
		"string":                           {s, []any{"type", "string", "limit", 3}, []byte("pump\x00\x00"), "pump"},
		"string BA":                        {s, []any{"limit", 3, "byteOrder", "BA"}, []byte("uppm\x00\x00"), "pump"},
		"string padded with blanks":        {s, []any{"type", "string", "limit", 3, "padding", "space"}, []byte("pump  "), "pump"},
		"string in Latin-1":                {s, []any{"type", "string", "limit", 1, "charset", "latin1"}, []byte{0xB0, 'C'}, "°C"},
		"string in UTF-8":                  {s, []any{"type", "string", "limit", 2}, []byte("°C\x00"), "°C"},
		"bytes":                            {y, []any{"limit", 2}, []byte{1, 2, 3, 255}, "AQID/w=="},
		"bytes BA":                         {y, []any{"limit", 1, "wordOrder", "BA"}, []byte{2, 1}, "AQI="},
	} {
		p := compiled(t, c.model, c.visitor...)
		v := p.layout.decode(c.regs)
		if v.Text() != c.text || v.Quality != device.Good {
			t.Errorf("%s (%s): decode gives %q (%s %s), want %q", name, p, v.Text(), v.Quality, v.Reason, c.text)
		}
		back, err := p.layout.encode(v)
		if err != nil || !bytes.Equal(back, c.regs) {
			t.Errorf("%s (%s): encode gives % x, %v; want % x", name, p, back, err, c.regs)
		}
	}
}

func TestWhatIsNoValue(t *testing.T) {
	for name, c := range map[string]struct {
		p    *point
		regs []byte
		q    device.Quality
		want string
	}{
		"NaN":             {compiled(t, device.TypeFloat, "type", "float32"), []byte{0x7F, 0xC0, 0, 0}, device.Uncertain, "not a finite number"},
		"half infinity":   {compiled(t, device.TypeFloat, "type", "float16"), []byte{0x7C, 0}, device.Uncertain, "not a finite number"},
		"no BCD":          {compiled(t, device.TypeInt, "type", "bcd16"), []byte{0x12, 0x3A}, device.Bad, "0x123a is not BCD"},
		"above max":       {compiled(t, device.TypeFloat, "type", "int16", "scale", 0.1, "max", 100), []byte{0x7F, 0xFF}, device.Bad, "shows 3276.7, which is outside of min and max"},
		"below min":       {compiled(t, device.TypeInt, "type", "int16", "min", -5, "max", 5), []byte{0xFF, 0xFA}, device.Bad, "shows -6"},
		"guarded NaN":     {compiled(t, device.TypeFloat, "type", "float32", "min", 0), []byte{0x7F, 0xC0, 0, 0}, device.Bad, "NaN"},
		"text that is no": {compiled(t, device.TypeString, "type", "string", "limit", 1), []byte{'a', 0xFF}, device.Uncertain, "not UTF-8"},
	} {
		if v := c.p.layout.decode(c.regs); v.Quality != c.q || !strings.Contains(v.Reason, c.want) {
			t.Errorf("%s: %s %s %q", name, v.Text(), v.Quality, v.Reason)
		}
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	const i, f = device.TypeInt, device.TypeFloat
	for name, c := range map[string]struct {
		p    *point
		v    device.Value
		want string
	}{
		"int16 too large":    {compiled(t, i, "type", "int16"), device.Int(32768), "does not fit int16 (-32768 to 32767)"},
		"uint16 negative":    {compiled(t, i, "type", "uint16"), device.Int(-1), "does not fit uint16 (0 to 65535)"},
		"int8 too large":     {compiled(t, i, "type", "int8-low"), device.Int(128), "does not fit int8 (-128 to 127)"},
		"uint32 too large":   {compiled(t, i, "type", "uint32"), device.Int(1 << 32), "does not fit uint32"},
		"int64 too large":    {compiled(t, i, "type", "int64"), device.Uint(1 << 63), "does not fit int64"},
		"bcd too large":      {compiled(t, i, "type", "bcd16"), device.Int(10000), "does not fit bcd16 (0 to 9999)"},
		"scaled":             {compiled(t, f, "type", "int16", "scale", 0.1), device.Float(4000), "does not fit int16 at scale 0.1 (-3276.8 to 3276.7)"},
		"negative scale":     {compiled(t, f, "type", "uint16", "scale", -1), device.Float(1), "does not fit uint16 at scale -1 (-65535 to 0)"},
		"fixed16":            {compiled(t, f, "type", "fixed16"), device.Float(200), "does not fit int16 (-128 to 127.99609375)"},
		"float16 too large":  {compiled(t, f, "type", "float16"), device.Float(65520), "does not fit float16"},
		"float32 too large":  {compiled(t, f, "type", "float32"), device.Float(1e300), "does not fit float32"},
		"float64 too large":  {compiled(t, f, "type", "float64", "scale", 0.1), device.Float(1e308), "does not fit float64"},
		"text":               {compiled(t, i), device.String("x"), "is not a number"},
		"NaN into an int":    {compiled(t, i), device.Float(math.NaN()), "does not fit"},
		"number into a bool": {compiled(t, device.TypeBoolean), device.Int(5), "not true or false"},
		"outside of guard":   {compiled(t, i, "min", 0, "max", 10), device.Int(11), "11 is outside of min and max (0 to 10)"},
		"mask too small":     {compiled(t, i, "mask", 0xF0, "shift", 4), device.Int(16), "does not fit into the bits of mask 0xf0"},
		"string too long":    {compiled(t, device.TypeString, "type", "string", "limit", 1), device.String("abc"), "has 3 bytes, and 1 registers hold 2"},
		"not Latin-1":        {compiled(t, device.TypeString, "type", "string", "limit", 4, "charset", "latin1"), device.String("€"), "ISO 8859-1"},
		"bytes too short":    {compiled(t, device.TypeBytes, "limit", 2), device.Bytes([]byte{1}), "1 bytes do not fill 2 registers"},
	} {
		if _, err := c.p.layout.encode(c.v); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// randomLayout makes any layout that a visitor can describe.
func randomLayout(r *rand.Rand) layout {
	l := layout{format: format(1 + r.IntN(int(formatBytes))), bit: -1, low: r.IntN(2) == 0, latin: true}
	if l.width = shapes[l.format].registers; l.width == 0 {
		l.width = uint16(1 + r.IntN(20))
	}
	l.order = order{swapBytes: r.IntN(2) == 0}
	if !l.format.text() {
		l.order.swapWords, l.order.swapLongs = r.IntN(2) == 0, r.IntN(2) == 0
	}
	switch {
	case l.format == formatBool && r.IntN(2) == 0:
		l.bit = int8(r.IntN(16))
	case l.format.integer() && !shapes[l.format].signed && l.format != formatUint8 && r.IntN(2) == 0:
		l.mask = max(r.Uint64()&(math.MaxUint64>>(64-16*l.width)), 1)
		for l.mask>>l.shift&1 == 0 {
			l.shift++
		}
	}
	return l
}

// TestEncodeIsTheInverseOfDecode over all formats, orders, parts, scales: what the device holds is what is written back, for every
// value that decodes to a good one.
func TestEncodeIsTheInverseOfDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	good := map[format]int{}
	for range 200_000 {
		l := randomLayout(r)
		regs := make([]byte, 2*l.width)
		for i := range regs {
			regs[i] = byte(r.Uint32())
			if l.format.bcd() {
				regs[i] = regs[i]%10 | regs[i]/16%10<<4
			}
			if l.format == formatString {
				regs[i] = 'a' + regs[i]%26
			}
		}
		for i, m := range l.maskBytes() {
			if !l.format.text() {
				regs[i] &= m
			}
		}
		if l.format == formatBool {
			regs = make([]byte, 2)
			if r.IntN(2) == 0 {
				_, shift := l.field()
				putNumber(regs, 1<<shift)
				l.order.arrange(regs)
			}
		}
		v := l.decode(regs)
		if v.Quality != device.Good {
			continue // NaN has many encodings
		}
		good[l.format]++
		back, err := l.encode(v)
		if err != nil || !bytes.Equal(back, regs) {
			t.Fatalf("%s: % x became %s became % x, %v", &l, regs, v.Text(), back, err)
		}
		// Scaled, the way back loses at most half a step, so integers come back as they were while a float64 can hold them.
		if l.format.integer() && shapes[l.format].bits <= 32 && l.mask == 0 {
			l.scale = newScale(math.Pow10(r.IntN(13) - 6))
			l.frac, l.add = uint8(r.IntN(8)), float64(r.IntN(200)-100)
			v := l.decode(regs)
			if back, err := l.encode(v); err != nil || !bytes.Equal(back, regs) {
				t.Fatalf("%s: % x became %s became % x, %v", &l, regs, v.Text(), back, err)
			}
		}
	}
	for f := formatBool; f <= formatBytes; f++ {
		if good[f] < 1000 {
			t.Errorf("%s was tried %d times", f, good[f])
		}
	}
}

// TestHalf goes through all 65,536 of them.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		x := float64(float32FromHalf(uint16(h)))
		if math.IsNaN(x) || math.IsInf(x, 0) {
			continue
		}
		if back, ok := halfFromFloat(x); !ok || back != uint16(h) {
			t.Fatalf("%#04x is %g is %#04x", h, x, back)
		}
	}
	for x, want := range map[float64]uint16{1: 0x3C00, 65504: 0x7BFF, 65519: 0x7BFF, 0x1p-25: 0, 0x1.8p-24: 2, 2049: 0x6800, 2051: 0x6802, 0x1.ffep-15: 0x0400} {
		if got, _ := halfFromFloat(x); got != want {
			t.Errorf("%g rounds to %#04x, want %#04x", x, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint64(1), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint64(99), []byte("text\x00\xff"))
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		l := randomLayout(rand.New(rand.NewPCG(seed, 1)))
		l.latin, l.guard, l.min, l.max = seed%2 == 0, seed%3 == 0, -1e6, 1e6
		n := 2 * int(l.width)
		if len(raw) < n {
			return
		}
		v := l.decode(raw[:n])
		if v.Quality != device.Good && v.Reason == "" {
			t.Errorf("%s: % x is %s without a reason", &l, raw[:n], v.Quality)
		}
		if v.Quality != device.Good {
			return
		}
		back, err := l.encode(v)
		if err != nil {
			t.Fatalf("%s: % x became %s, which cannot be written: %v", &l, raw[:n], v.Text(), err)
		}
		if again := l.decode(back); !again.Same(v) {
			t.Errorf("%s: % x became %s became % x became %s", &l, raw[:n], v.Text(), back, again.Text())
		}
	})
}

// FuzzVisitor: no visitor makes the compiler panic, and what it accepts can decode, and describes itself.
func FuzzVisitor(f *testing.F) {
	f.Add("type", "int32", "offset", "40001", "addressing", "modicon", uint8(1))
	f.Add("mask", "0xFF", "shift", "4", "bit", "3", uint8(2))
	f.Fuzz(func(t *testing.T, a, av, b, bv, c, cv string, model uint8) {
		m := map[string]any{"register": "holding", "offset": 1}
		m[a], m[b], m[c] = av, bv, cv
		p, err := parsePoint(device.PointConfig{Property: "p", Path: "x", Type: device.Type(model%7 + 1), Visitor: m})
		if err != nil {
			if len(device.FieldErrors(err)) == 0 {
				t.Errorf("%v names no field", err)
			}
			return
		}
		if p.String() == "" || p.end() > 65536 || p.width == 0 {
			t.Errorf("%+v was accepted as %s", m, p)
		}
		data := make([]byte, 2*p.width)
		_ = p.value(p.addr, data)
	})
}
