package device

import (
	"math"
	"testing"
	"time"
)

// TestDatum: what was encoded comes back, with the same text, and what follows is left alone.
func TestDatum(t *testing.T) {
	for _, v := range []Value{
		{}, BadValue("no answer", time.Unix(1, 0)), Bool(false), Bool(true), Int(0), Int(-1), Int(math.MaxInt64), Int(math.MinInt64), Uint(0), Uint(math.MaxUint64),
		Float(0), Float(-0.1), Float(math.Inf(1)), Float(math.NaN()), Float(float64(float32(0.1))), Float32(0.1), Float32(-3.5e20), String(""), String("grüße"), Bytes(nil), Bytes([]byte{0, 255}),
	} {
		b := v.AppendDatum(nil)
		if len(b) > v.DatumSize() {
			t.Errorf("%v %q takes %d bytes, DatumSize says %d", v.Kind(), v.Text(), len(b), v.DatumSize())
		}
		got, rest, err := ReadDatum(v.DatumCode(), append(b, 7))
		if err != nil || len(rest) != 1 || rest[0] != 7 {
			t.Errorf("%v %q: %v, rest %v", v.Kind(), v.Text(), err, rest)
		}
		if !got.Same(v) || got.Text() != v.Text() || got.Kind() != v.Kind() {
			t.Errorf("%v %q came back as %v %q", v.Kind(), v.Text(), got.Kind(), got.Text())
		}
	}
}

func FuzzDatum(f *testing.F) {
	f.Add(uint8(codeString), []byte("\x03abc"))
	f.Add(uint8(codeBytes), []byte("\xff\xff\xff\xff\x0fabc"))
	f.Add(uint8(codeFloat32), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, code uint8, b []byte) {
		v, rest, err := ReadDatum(code, b)
		if err != nil {
			return
		}
		if len(rest) > len(b) {
			t.Fatal("more is left than there was")
		}
		again, _, err := ReadDatum(v.DatumCode(), v.AppendDatum(nil))
		if err != nil || !again.Same(v) {
			t.Fatalf("%q came back as %q, %v", v.Text(), again.Text(), err)
		}
	})
}
