package canon

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestGolden holds the encoding to testdata/canon.txt: JSON, a tab, hex of the canonical bytes, and, if the canonical text
// differs from the JSON given, a tab and that text.
func TestGolden(t *testing.T) {
	f, err := os.Open("testdata/canon.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if line := sc.Text(); line != "" && line[0] != '#' {
			checkGolden(t, strings.Split(line, "\t"))
			n++
		}
	}
	if n < 20 {
		t.Fatalf("only %d vectors were read", n)
	}
}

func checkGolden(t *testing.T, parts []string) {
	t.Helper()
	if len(parts) < 2 {
		t.Fatalf("vector %q has no second column", parts)
	}
	text := parts[0]
	b, err := FromJSON([]byte(text))
	if err != nil {
		t.Fatalf("FromJSON(%s): %v", text, err)
	}
	if got := hex.EncodeToString(b); got != parts[1] {
		t.Errorf("FromJSON(%s)\n got %s\nwant %s", text, got, parts[1])
	}
	back, err := ToJSON(b)
	if err != nil {
		t.Fatalf("ToJSON(FromJSON(%s)): %v", text, err)
	}
	if want := parts[len(parts)-1]; len(parts) == 3 && string(back) != want {
		t.Errorf("%s comes back as %s, want %s", text, back, want)
	} else if len(parts) == 2 && string(back) != text {
		t.Errorf("%s comes back as %s", text, back)
	}
	checkSame(t, b)
}

// checkSame asserts that all decoders accept b and that what they return encodes as b again.
func checkSame(t *testing.T, b []byte) {
	t.Helper()
	if err := Check(b); err != nil {
		t.Fatalf("Check(%x): %v", b, err)
	}
	v, err := ToValue(b)
	if err != nil {
		t.Fatalf("ToValue(%x): %v", b, err)
	}
	again, err := FromValue(v)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("value of %x encodes as %x, %v", b, again, err)
	}
	text, err := ToJSON(b)
	if err != nil {
		t.Fatalf("ToJSON(%x): %v", b, err)
	}
	again, err = FromJSON(text)
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("JSON %s of %x encodes as %x, %v", text, b, again, err)
	}
}

func TestIntegersAreExact(t *testing.T) {
	for _, v := range []any{int64(math.MinInt64), int64(math.MaxInt64), uint64(math.MaxUint64), int64(1<<53 + 1),
		int64(-1), int64(-32), int64(-33), int64(-128), int64(-129), int64(-32768), int64(-32769), int64(math.MinInt32),
		int64(math.MinInt32 - 1), int64(127), int64(128), int64(255), int64(256), int64(65535), int64(65536), int64(1<<32 - 1), int64(1 << 32)} {
		b, err := FromValue(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ToValue(b)
		if err != nil || got != v {
			t.Errorf("%v comes back as %v, %v", v, got, err)
		}
		checkSame(t, b)
	}
}

func TestFloatsStayFloats(t *testing.T) {
	for _, f := range []float64{0, 1, -1, 1.5, 1e21, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 53} {
		b, err := FromValue(f)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := ToValue(b); got != f {
			t.Errorf("%v comes back as %v", f, got)
		}
		checkSame(t, b)
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := FromValue(f); err == nil {
			t.Errorf("%v was encoded", f)
		}
	}
}

func TestRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("81a161", n) + "01" }
	for name, in := range map[string]string{
		"empty":                    "",
		"truncated string":         "a2 61",
		"trailing byte":            "01 01",
		"unsorted keys":            "82 a162 01 a161 01",
		"repeated key":             "82 a161 01 a161 02",
		"key is a number":          "81 01 01",
		"bin":                      "c4 01 00",
		"ext":                      "d4 01 00",
		"float 32":                 "ca 3f800000",
		"NaN":                      "cb 7ff8000000000000",
		"never used":               "c1",
		"long form of 1":           "cc 01",
		"long form of 255":         "cd 00ff",
		"signed form of 1":         "d0 01",
		"signed form of -1":        "d0 ff",
		"int 16 for -128":          "d1 ff80",
		"long form of a string":    "d9 01 61",
		"long form of an array":    "dc 0001 01",
		"array of 4 G":             "dd ffffffff",
		"map of 4 G":               "df ffffffff",
		"string of 4 G":            "db ffffffff",
		"array larger than input":  "93 01 01",
		"string is not UTF-8":      "a1 ff",
		"65 levels":                deep(65),
		"a million arrays (depth)": strings.Repeat("91", 1_000_000) + "01",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(b); err == nil {
			t.Errorf("%s: Check accepts it", name)
		}
		if text, err := ToJSON(b); err == nil {
			t.Errorf("%s: ToJSON makes %s of it", name, text)
		}
		if v, err := ToValue(b); err == nil {
			t.Errorf("%s: ToValue makes %v of it", name, v)
		}
	}
	b, _ := hex.DecodeString(deep(64))
	checkSame(t, b)
}

func TestRefusedJSON(t *testing.T) {
	for _, text := range []string{"", "{", "1 2", "nul", `{"a":}`, "1e999", `"` + "\x01" + `"`, strings.Repeat("[", 65) + strings.Repeat("]", 65)} {
		if b, err := FromJSON([]byte(text)); err == nil {
			t.Errorf("FromJSON(%.20s) = %x", text, b)
		}
	}
	if _, err := FromJSON(bytes.Repeat([]byte(" "), MaxSize+1)); !errors.Is(err, ErrTooBig) {
		t.Errorf("a text over the limit: %v", err)
	}
	if _, err := FromJSON([]byte(strings.Repeat("[", 64) + strings.Repeat("]", 64))); err != nil {
		t.Errorf("64 levels: %v", err)
	}
	if _, err := FromJSON([]byte(`{"a":"[[[[{{{{\"[[["}`)); err != nil {
		t.Errorf("brackets in strings: %v", err)
	}
}

func TestDropNulls(t *testing.T) {
	var v any
	if err := json.Unmarshal([]byte(`{"a":null,"b":{"c":null,"d":[null,{"e":null,"f":1}]}}`), &v); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(DropNulls(v))
	if want := `{"b":{"d":[null,{"f":1}]}}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRandomValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		v := randomValue(r, 0)
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := FromJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		checkSame(t, b)
		back, err := ToJSON(b)
		if err != nil {
			t.Fatal(err)
		}
		var x, y any
		if json.Unmarshal(text, &x) != nil || json.Unmarshal(back, &y) != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%s came back as %s", text, back)
		}
	}
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(8); {
	case n == 0:
		return nil
	case n == 1:
		return r.IntN(2) == 0
	case n == 2:
		return int64(r.Uint64()) >> r.IntN(64)
	case n == 3:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(60)-30))
	case n == 4 || depth > 3:
		return string([]rune{rune(r.IntN(300)), '"', '\\', 'é', '\u2028', rune(r.IntN(1 << 16))}[:r.IntN(7)])
	case n == 5:
		a := make([]any, r.IntN(20-3*depth))
		for i := range a {
			a[i] = randomValue(r, depth+1)
		}
		return a
	}
	m := map[string]any{}
	for range r.IntN(20 - 3*depth) {
		m[strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(40))] = randomValue(r, depth+1)
	}
	return m
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x81, 0xa1, 0x61, 0x92, 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 0xc0})
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(b)
		_, errJSON := ToJSON(b)
		_, errValue := ToValue(b)
		if (err == nil) != (errJSON == nil) || (err == nil) != (errValue == nil) {
			t.Fatalf("decoders disagree: Check %v, ToJSON %v, ToValue %v", err, errJSON, errValue)
		}
		if err == nil {
			checkSame(t, b)
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-1.5e3,"x\u0000\ud83d\ude00",null,true,18446744073709551615]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := FromJSON(text)
		if err != nil {
			return
		}
		checkSame(t, b)
	})
}
