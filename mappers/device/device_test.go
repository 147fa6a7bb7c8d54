package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTextOfValues(t *testing.T) {
	for _, c := range []struct {
		v    Value
		text string
	}{
		{Bool(true), "true"}, {Int(-5), "-5"}, {Uint(math.MaxUint64), "18446744073709551615"},
		{Float(21.5), "21.5"}, {Float32(0.1), "0.1"}, {Float(0.1), "0.1"}, {Float(1e6), "1000000"}, {Float(1e-7), "1e-07"}, {Float(1e21), "1e+21"},
		{Float(0), "0"}, {Float(math.NaN()), "NaN"}, {Float(math.Inf(1)), "Inf"}, {String("a b"), "a b"}, {Bytes([]byte{1, 2, 255}), "AQL/"}, {Value{}, ""},
	} {
		if got := c.v.Text(); got != c.text {
			t.Errorf("%v: %q, want %q", c.v.Kind(), got, c.text)
		}
	}
}

func TestZeroValueIsBad(t *testing.T) {
	var v Value
	if v.Quality != Bad || v.Kind() != KindNone {
		t.Error("a forgotten value looks like a measurement")
	}
	at := time.Unix(5, 0)
	if b := BadValue("off", at); b.Quality != Bad || b.Reason != "off" || b.Server != at {
		t.Errorf("%+v", b)
	}
}

func TestParseAndConvert(t *testing.T) {
	for _, c := range []struct {
		text string
		typ  Type
		want string // "" means refused
	}{
		{"42", TypeInt, "42"}, {" -7 ", TypeInt, "-7"}, {"0x10", TypeInt, "16"}, {"20.0", TypeInt, "20"}, {"20.5", TypeInt, ""}, {"hot", TypeInt, ""}, {"010", TypeInt, "10"}, {"-010", TypeInt, "-10"}, {"08", TypeInt, "8"},
		{"18446744073709551615", TypeInt, "18446744073709551615"}, {"", TypeInt, ""},
		{"21.5", TypeFloat, "21.5"}, {"1e400", TypeDouble, ""}, {"NaN", TypeDouble, ""}, {"1e300", TypeFloat, ""},
		{"true", TypeBoolean, "true"}, {"0", TypeBoolean, "false"}, {"maybe", TypeBoolean, ""},
		{"a b", TypeString, "a b"}, {"AQL/", TypeBytes, "AQL/"}, {"***", TypeBytes, ""}, {"x", TypeStream, ""},
	} {
		v, err := Parse(c.text, c.typ)
		if (err == nil) != (c.want != "") || v.Text() != c.want {
			t.Errorf("Parse(%q, %s) = %q, %v", c.text, c.typ, v.Text(), err)
		}
	}
	at := time.Unix(9, 0)
	for _, c := range []struct {
		v    Value
		typ  Type
		want string
	}{
		{Int(3), TypeDouble, "3"}, {Float(2.5), TypeInt, "3"}, {Float(-2.5), TypeInt, "-3"}, {Int(2), TypeBoolean, "true"}, {Bool(true), TypeInt, "1"},
		{Float(0.1), TypeFloat, "0.1"}, {Int(3), TypeString, "3"}, {Bool(true), TypeFloat, ""}, {String("x"), TypeInt, ""}, {Float(1e30), TypeInt, ""},
	} {
		v, err := c.v.At(at).Doubt(Uncertain, "old").Convert(c.typ)
		if (err == nil) != (c.want != "") || v.Text() != c.want {
			t.Errorf("%s as %s = %q, %v", c.v.Text(), c.typ, v.Text(), err)
		}
		if err == nil && (v.Server != at || v.Quality != Uncertain || v.Reason != "old") {
			t.Errorf("%s as %s lost its timestamp or quality: %+v", c.v.Text(), c.typ, v)
		}
	}
}

func TestCompareIsExact(t *testing.T) {
	big := int64(1) << 53
	for _, c := range []struct {
		a, b Value
		want int
	}{
		{Int(big + 1), Int(big), 1}, {Int(-1), Uint(math.MaxUint64), -1}, {Uint(math.MaxUint64), Int(-1), 1}, {Int(-2), Int(-1), -1},
		{Int(3), Float(3.5), -1}, {Float(3), Int(3), 0}, {Uint(7), Int(7), 0},
	} {
		if got := Compare(c.a, c.b); got != c.want {
			t.Errorf("Compare(%s, %s) = %d", c.a.Text(), c.b.Text(), got)
		}
	}
}

func TestFieldsCoerceWhatDecodersAndPeopleWrite(t *testing.T) {
	for _, v := range []any{7, int64(7), uint64(7), uint8(7), 7.0, float32(7), "7", " 7 ", "7.0", "0x7", json.Number("7")} {
		f := NewFields("x", map[string]any{"N": v})
		if n := f.Int(0, 1, 9, "n"); n != 7 || f.Err(nil) != nil {
			t.Errorf("%T %v: %d %v", v, v, n, f.Err(nil))
		}
	}
	for _, v := range []any{7.5, "seven", true, []any{7}, map[string]any{}, uint64(math.MaxUint64), 10, "1e300", math.NaN()} {
		f := NewFields("x", map[string]any{"n": v})
		if f.Int(0, 1, 9, "n"); len(FieldErrors(f.Err(nil))) != 1 {
			t.Errorf("%T %v: %v", v, v, f.Err(nil))
		}
	}
	f := NewFields("x", map[string]any{"a": "1.5", "b": "TRUE", "c": nil, "d": "", "e": "Word-Two", "g": 5})
	if f.Float(0, "a") != 1.5 || !f.Bool(false, "b") || f.Int(3, 0, 9, "c") != 3 || f.Text("def", "d") != "def" || f.Text("", "g") != "5" ||
		Choice(f, 0, map[string]int{"wordtwo": 2}, nil, "e") != 2 || f.Err(nil) != nil {
		t.Errorf("coercion: %v", f.Err(nil))
	}
}

func TestFieldErrorsNameEverythingAtOnce(t *testing.T) {
	f := NewFields("spec.x", map[string]any{"a": "nope", "ofset": 1, "u": 1, "unit": 2})
	f.Float(0, "a")
	f.Int(0, 0, 9, "u", "unit")
	f.Require("0 to 9", "b")
	Choice(f, 0, nil, []string{"x", "y"}, "a")
	err := f.Err([]FieldDoc{{Name: "a"}, {Name: "offset"}})
	for _, want := range []string{
		`spec.x.a: "nope": is not a number; allowed: a finite number`,
		`spec.x.unit: 2: contradicts u, which means the same; allowed: one of the two`,
		`spec.x.b: is missing; allowed: 0 to 9`,
		`spec.x.ofset: unknown field; allowed: a, offset`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	if got := FieldErrors(fmt.Errorf("wrapped: %w", errors.Join(err))); len(got) != 4 { // of a the first one only
		t.Errorf("%d field errors: %v", len(got), got)
	}
	long := &FieldError{Field: "f", Value: strings.Repeat("é", 5000), Problem: "p"}
	if n := len(long.Error()); n > 200 {
		t.Errorf("a hostile value makes a message of %d bytes", n)
	}
}

func TestWords(t *testing.T) {
	for _, q := range []Quality{Good, Uncertain, Bad} {
		if ParseQuality(q.String()) != q {
			t.Errorf("quality %s does not survive", q)
		}
	}
	for _, typ := range []Type{TypeInt, TypeFloat, TypeDouble, TypeString, TypeBoolean, TypeBytes, TypeStream} {
		if got, ok := ParseType(strings.ToLower(typ.String())); !ok || got != typ {
			t.Errorf("type %s does not survive", typ)
		}
	}
	if _, ok := ParseType("INTEGER"); ok || Type(0).String() != "unknown type" {
		t.Error("an unknown type was accepted")
	}
}

// TestTextIsTheInverseOfParse: what a value shows in the status is what a manifest may say to get it back, for values of every type and of all magnitudes.
func TestTextIsTheInverseOfParse(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 42))
	for range 20_000 {
		for typ, v := range map[Type]Value{
			TypeInt: Int(int64(r.Uint64()) >> r.IntN(64)), TypeDouble: Float(math.Ldexp(2*r.Float64()-1, r.IntN(2000)-1000)),
			TypeFloat: Float32(float32(math.Ldexp(2*r.Float64()-1, r.IntN(270)-142))), TypeBoolean: Bool(r.IntN(2) == 0),
			TypeBytes: Bytes([]byte(strconv.FormatUint(r.Uint64(), 36))), TypeString: String(strconv.FormatUint(r.Uint64(), 36)),
		} {
			got, err := Parse(v.Text(), typ)
			if err != nil || !got.Same(v) || got.Text() != v.Text() {
				t.Fatalf("%s: %q is read as %q, %v", typ, v.Text(), got.Text(), err)
			}
			if same, err := v.Convert(typ); err != nil || !same.Same(v) {
				t.Fatalf("%s: %q is converted to %q, %v", typ, v.Text(), same.Text(), err)
			}
			b := v.AppendDatum(nil)
			if back, rest, err := ReadDatum(v.DatumCode(), b); err != nil || len(rest) != 0 || !back.Same(v) || back.Text() != v.Text() {
				t.Fatalf("%s: %q comes back from % x as %q, %v", typ, v.Text(), b, back.Text(), err)
			}
		}
		n := r.Uint64() | 1<<63
		if got, err := Parse(strconv.FormatUint(n, 10), TypeInt); err != nil || got.AsUint() != n || got.Kind() != KindUint {
			t.Fatalf("%d is read as %q, %v", n, got.Text(), err)
		}
	}
}
