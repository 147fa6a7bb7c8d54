package pointlist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// Options say what a list does not.
type Options struct {
	// Columns names columns by what they hold: {"name": "Signal"}; a number counts from 1. See Columns.
	Columns map[string]string
	// Table is the register table of addresses that name none: holding, input, coil, discrete.
	Table string
	// Type is the type of points that have none, as in the list's own words: int16, float32 …
	Type string
	// Addressing says how addresses count: auto, zero, one, modicon.
	Addressing string
	// Order is the byte order of values of several registers: ABCD, CDAB …
	Order string
}

// Read reads a list, whatever it is. Its error means that it is no list at all; lines that were not understood are in List.Refused.
func Read(data []byte, o Options) (*List, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("the list is larger than %d bytes", MaxSize)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	text, err := decodeText(data)
	if err != nil {
		return nil, err
	}
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
		return readNeuron(trimmed, o)
	}
	return readTable(text, o)
}

func (o *Options) check() error {
	if o.Table != "" {
		t, ok := tableWords[squeeze(o.Table)]
		if !ok {
			return fmt.Errorf("table %q: allowed are holding, input, coil, discrete", o.Table)
		}
		o.Table = t
	}
	switch o.Addressing {
	case "":
		o.Addressing = "auto"
	case "auto", "zero", "one", "modicon":
	default:
		return fmt.Errorf("addressing %q: allowed are auto, zero, one, modicon", o.Addressing)
	}
	if o.Type != "" {
		if _, ok := typeOf(o.Type); !ok {
			return fmt.Errorf("type %q: allowed are %s", o.Type, typeNames)
		}
	}
	if o.Order != "" {
		order, ok := orderWords[squeeze(o.Order)]
		if !ok {
			return fmt.Errorf("order %q: allowed are ABCD, CDAB, BADC, DCBA", o.Order)
		}
		o.Order = order
	}
	return nil
}

// decodeText makes UTF-8 of what spreadsheets write: UTF-8 with or without a byte order mark, UTF-16 with one, or Windows' Latin.
func decodeText(data []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return nil, errors.New("this is a spreadsheet (.xlsx), which cannot be read: save it as CSV")
	case bytes.HasPrefix(data, []byte{0xD0, 0xCF, 0x11, 0xE0}):
		return nil, errors.New("this is an old spreadsheet (.xls), which cannot be read: save it as CSV")
	case bytes.HasPrefix(data, []byte{0xEF, 0xBB, 0xBF}):
		data = data[3:]
	case bytes.HasPrefix(data, []byte{0xFF, 0xFE}):
		return decodeWide(data[2:], binary.LittleEndian), nil
	case bytes.HasPrefix(data, []byte{0xFE, 0xFF}):
		return decodeWide(data[2:], binary.BigEndian), nil
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("this is not a text file")
	}
	if utf8.Valid(data) {
		return data, nil
	}
	out := make([]byte, 0, len(data)+len(data)/8)
	for _, b := range data {
		out = utf8.AppendRune(out, latin(b))
	}
	return out, nil
}

func decodeWide(data []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// latin is a byte of Windows-1252 as far as point lists use more of it than ISO 8859-1 has.
func latin(b byte) rune {
	switch b {
	case 0x80:
		return '€'
	case 0x91, 0x92:
		return '\''
	case 0x93, 0x94:
		return '"'
	case 0x96, 0x97:
		return '-'
	case 0x89:
		return '‰'
	}
	return rune(b)
}
