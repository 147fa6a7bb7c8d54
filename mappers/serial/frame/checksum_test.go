package frame

import (
	"strings"
	"testing"
)

// TestCatalogue holds every algorithm to the check value that the catalogue publishes for it.
func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range catalogue() {
		if got := e.crc.Sum([]byte("123456789")); got != e.check {
			t.Errorf("%s: %#x, want %#x", e.names[0], got, e.check)
		}
		for _, n := range e.names {
			if seen[plainName(n)] {
				t.Errorf("%s is there twice", n)
			}
			seen[plainName(n)] = true
			if a, err := Find(strings.ToLower(n)); err != nil || a != Algorithm(e.crc) {
				t.Errorf("%s is not found: %v %v", n, a, err)
			}
		}
	}
	if len(catalogue()) != 51 {
		t.Errorf("%d algorithms", len(catalogue()))
	}
}

func TestSimpleChecksums(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       uint64
		size       int
	}{
		{"xor", "GPGLL,5300.97914,N,00259.98174,E,125926,A", 0x28, 1}, // NMEA 0183's usual example
		{"LRC", "\xF7\x03\x13\x89\x00\x0A", 0x60, 1},                  // Modbus over Serial Line, ASCII
		{"sum8", "\xFF\x02", 1, 1}, {"sum-16", "\xFF\x02", 0x101, 2}, {"neg-sum16", "\xFF\x02", 0xFEFF, 2}, {"sum32", "\xFF\x02", 0x101, 4},
		{"width=16 poly=0x1021 init=0x1d0f refin=false refout=false xorout=0x0000 check=0xe5cc", "123456789", 0xE5CC, 2},
		{"width=24 poly=0x864cfb init=0xb704ce", "123456789", 0x21CF02, 3}, // CRC-24/OPENPGP
	} {
		a, err := Find(c.name)
		if err != nil {
			t.Error(err)
			continue
		}
		if a.Sum([]byte(c.data)) != c.want || a.Size() != c.size {
			t.Errorf("%s: %#x in %d bytes", c.name, a.Sum([]byte(c.data)), a.Size())
		}
	}
	for _, name := range []string{"", "crc-17", "width=12 poly=0x80f", "width=16 poly=0x11021", "width=16", "width=16 poly=x", "width=16 poly=1 size=2"} {
		if a, err := Find(name); err == nil {
			t.Errorf("%q is %v", name, a)
		}
	}
}

func TestChecksumsPlace(t *testing.T) {
	crc, _ := Find("CRC-16/MODBUS")
	xor, _ := Find("xor")
	for _, c := range []struct {
		sum   Checksum
		frame string
		want  string
		ok    bool
	}{
		{Checksum{Algorithm: crc, Little: true}, "123456789\x37\x4b", "123456789", true},
		{Checksum{Algorithm: crc}, "123456789\x4b\x37", "123456789", true},
		{Checksum{Algorithm: crc, Hex: true}, "1234567894b37", "123456789", true},
		{Checksum{Algorithm: crc, Hex: true}, "1234567894B37", "123456789", true},
		{Checksum{Algorithm: crc, Hex: true}, "1234567894Bx7", "", false},
		{Checksum{Algorithm: crc}, "123456788\x4b\x37", "", false},
		{Checksum{Algorithm: crc}, "1", "", false},
		{Checksum{Algorithm: xor, From: 1, Trailer: 1}, "\x02AB\x03\x03", "\x02AB", true},
		{Checksum{Algorithm: xor, From: 9}, "\x02AB\x03", "", false},
		{Checksum{}, "x", "x", true},
	} {
		got, ok := c.sum.verify([]byte(c.frame))
		if ok != c.ok || ok && string(got) != c.want {
			t.Errorf("%+v %q: %q, %v", c.sum, c.frame, got, ok)
		}
	}
}
