package device_test

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/skerry/skerry/mappers/device"
)

// TestCompact: what is kept is what was put in, in 40 bytes, and without an allocation for a number.
func TestCompact(t *testing.T) {
	at := time.Date(2026, 5, 17, 8, 0, 0, 123, time.UTC)
	for _, v := range []device.Value{
		{}, device.Bool(true), device.Int(-7), device.Uint(math.MaxUint64), device.Float(1.5), device.Float32(0.1), device.Float(math.NaN()),
		device.String("x"), device.Bytes([]byte{0, 1}), device.BadValue("gone", at), device.Int(1).Doubt(device.Uncertain, "old"),
		device.Int(3).At(time.Unix(0, 0)), device.String("").At(at),
	} {
		v.Source = at.Add(-time.Second)
		var c device.Compact
		got := c.Next(v).Value()
		if !got.Same(v) || got.Text() != v.Text() || got.Kind() != v.Kind() || got.Quality != v.Quality || got.Reason != v.Reason || !got.Source.Equal(v.Source) {
			t.Errorf("%+v became %+v", v, got)
		}
		if d := got.Server.Sub(v.Server).Abs(); d > 1 || got.Server.IsZero() != v.Server.IsZero() {
			t.Errorf("%v became %v", v.Server, got.Server)
		}
		if c = c.Next(v); c.Kind() != v.Kind() || c.Quality() != v.Quality || c.Reason() != v.Reason {
			t.Errorf("%+v is told as %v, %v, %q", v, c.Kind(), c.Quality(), c.Reason())
		}
	}
	far := device.Int(1)
	far.Source = time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)
	var c device.Compact
	if got := c.Next(far).Value().Source.Year(); got != 1677 {
		t.Errorf("1600 became %d", got)
	}
	if got := unsafe.Sizeof(c); got > 40 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("%d bytes are kept of a value", got)
	}
	text := device.String("running").Doubt(device.Uncertain, "old")
	c = c.Next(text)
	if n := testing.AllocsPerRun(100, func() { c = c.Next(text.At(at)) }); n != 0 {
		t.Errorf("%v allocations for a text that did not change", n)
	}
	if n := testing.AllocsPerRun(100, func() { c = c.Next(device.Float(2)); _ = c.Value() }); n != 0 {
		t.Errorf("%v allocations for a number", n)
	}
}
