package bootenv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"
)

func block(t *testing.T, text string) []byte {
	t.Helper()
	b := make([]byte, Size)
	copy(b[header:], text)
	binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[header:]))
	return b
}

func mustEncode(t *testing.T, e Env) []byte {
	t.Helper()
	b, err := e.Encode(Size)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEncodeParse(t *testing.T) {
	for _, e := range []Env{
		Default(),
		{Seq: maxSeq, Order: [2]Slot{B, A}, Left: map[Slot]int{A: 0, B: 2}, Confirmed: A, Resort: 9},
		{Seq: 17, Order: [2]Slot{A, B}, Left: map[Slot]int{A: 9, B: 1}, Confirmed: B},
	} {
		got, err := Parse(mustEncode(t, e))
		if err != nil || !got.Equal(e) {
			t.Errorf("%+v came back as %+v, %v", e, got, err)
		}
	}
	text := string(bytes.TrimRight(mustEncode(t, Env{Seq: 26, Order: [2]Slot{B, A}, Left: map[Slot]int{A: 3, B: 1}, Confirmed: A})[4:], "\x00"))
	if want := "BOOT_A_LEFT=3\x00BOOT_B_LEFT=1\x00BOOT_ORDER=B A\x00SKERRY_CONFIRMED=A\x00SKERRY_RESORT=0\x00SKERRY_SEQ=0x1a"; text != want {
		t.Errorf("variables are %q, want %q", text, want)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, e := range map[string]Env{
		"zero value":     {},
		"order":          {Order: [2]Slot{A, A}, Left: map[Slot]int{}},
		"too many tries": {Order: [2]Slot{A, B}, Left: map[Slot]int{A: 10}},
		"negative":       {Order: [2]Slot{A, B}, Left: map[Slot]int{B: -1}},
		"confirmed":      {Order: [2]Slot{A, B}, Left: map[Slot]int{}, Confirmed: "C"},
		"number":         {Order: [2]Slot{A, B}, Left: map[Slot]int{}, Seq: maxSeq + 1},
	} {
		if b, err := e.Encode(Size); err == nil {
			t.Errorf("%s: was encoded: %q", name, bytes.TrimRight(b, "\x00"))
		}
	}
	if _, err := Default().Encode(40); err == nil {
		t.Error("an environment was squeezed into 40 bytes")
	}
}

func TestParseRefuses(t *testing.T) {
	good := mustEncode(t, Default())
	flipped := bytes.Clone(good)
	flipped[Size-1] ^= 1
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:5], "zeros": make([]byte, Size), "ones": bytes.Repeat([]byte{0xff}, Size), "one bit": flipped, "cut": good[:Size/2],
		"order":      block(t, "BOOT_ORDER=A C\x00"),
		"one slot":   block(t, "BOOT_ORDER=A\x00"),
		"tries":      block(t, "BOOT_A_LEFT=12\x00"),
		"no digit":   block(t, "BOOT_B_LEFT=x\x00"),
		"empty left": block(t, "BOOT_B_LEFT=\x00"),
		"number":     block(t, "SKERRY_SEQ=12\x00"),
		"huge":       block(t, "SKERRY_SEQ=0x80000000\x00"),
		"confirmed":  block(t, "SKERRY_CONFIRMED=Z\x00"),
		"no value":   block(t, "BOOT_ORDER\x00"),
		"endless":    block(t, strings.Repeat("x", Size-header)),
		"many":       block(t, strings.Repeat("x=1\x00", 65)),
	} {
		if e, err := Parse(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Parse gives %+v, %v, want an error that wraps ErrDamaged", name, e, err)
		}
	}
}

// TestParseIsLenient: variables that are not there have their defaults, as in the script; those of others are passed over.
func TestParseIsLenient(t *testing.T) {
	got, err := Parse(block(t, "BOOT_B_LEFT=1\x00bootdelay=2\x00"))
	want := Default()
	want.Left[B] = 1
	if err != nil || !got.Equal(want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestLifeOfAnUpdate(t *testing.T) {
	e := Default()
	boot := func(want Slot) {
		t.Helper()
		var s Slot
		if s, e = e.Boot(); s != want {
			t.Fatalf("slot %s boots, want %s: %+v", s, want, e)
		}
	}
	boot(A)
	e.Confirm(A)
	e.SetGood(B, false) // RAUC begins to write
	boot(A)             // power failed in the middle of it
	e.Confirm(A)
	e.SetPrimary(B) // written
	boot(B)
	boot(B)
	boot(B) // three tries, never confirmed
	boot(A) // rolled back
	if e.Good(B) {
		t.Error("a slot that failed three times is still good")
	}
	e.Confirm(A)
	if s, ok := e.Primary(); s != A || !ok {
		t.Errorf("primary is %s, %v after the roll-back was confirmed", s, ok)
	}
	e.SetPrimary(B)
	boot(B)
	e.Confirm(B)
	for range 2 {
		boot(B)
	}
	if e.Left[B] != 1 || e.Confirmed != B {
		t.Errorf("after two boots that were not confirmed: %+v", e)
	}
}

func TestLastResort(t *testing.T) {
	e := Env{Order: [2]Slot{A, B}, Left: map[Slot]int{A: 0, B: 0}, Confirmed: B}
	if s, ok := e.Primary(); ok {
		t.Fatalf("%s is primary without tries", s)
	}
	want := B
	for i := range 25 {
		s, next := e.Boot()
		if s != want {
			t.Fatalf("boot %d without tries is of %s, want %s", i, s, want)
		}
		mustEncode(t, next)
		e, want = next, want.Other()
	}
	e.Confirm(A)
	if e.Resort != 0 || e.Left[A] != Tries {
		t.Errorf("after a slot was confirmed: %+v", e)
	}
	if s, _ := (Env{Order: [2]Slot{B, A}, Left: map[Slot]int{}}).Boot(); s != A {
		t.Errorf("nothing confirmed: slot %s boots, want A", s)
	}
}

// TestAnythingBoots: whatever a copy that can be parsed says, something boots, and what is written then can be read.
func TestAnythingBoots(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		e := Env{Seq: r.Uint32N(1000), Order: [2]Slot{A, B}, Left: map[Slot]int{A: r.IntN(10), B: r.IntN(10)}, Resort: r.IntN(10)}
		if r.IntN(2) == 0 {
			e.Order = [2]Slot{B, A}
		}
		e.Confirmed = []Slot{"", A, B}[r.IntN(3)]
		s, next := e.Boot()
		back, err := Parse(mustEncode(t, next))
		if err != nil || !back.Equal(next) || (s != A && s != B) || next.Seq != e.Seq+1 {
			t.Fatalf("%+v boots %s and leaves %+v, %v", e, s, back, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "BOOT_ORDER=B A\x00BOOT_A_LEFT=3\x00SKERRY_SEQ=0x12\x00", "SKERRY_CONFIRMED=A\x00\x00=\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := make([]byte, header+len(text)+1)
		copy(b[header:], text)
		binary.LittleEndian.PutUint32(b, crc32.ChecksumIEEE(b[header:]))
		e, err := Parse(b)
		if err != nil {
			return
		}
		out, err := e.Encode(Size)
		if err != nil {
			t.Fatalf("%+v was parsed and cannot be written: %v", e, err)
		}
		if back, err := Parse(out); err != nil || !back.Equal(e) {
			t.Fatalf("%+v came back as %+v, %v", e, back, err)
		}
	})
}
