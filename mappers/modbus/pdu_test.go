package modbus

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		r    *request
		fc   byte
		data []byte
		text string
	}{
		"read coils":      {readRequest(coils, 0x13, 0x25), 1, []byte{0, 0x13, 0, 0x25}, "read coils 19 to 55"},
		"read discrete":   {readRequest(discreteInputs, 1, 1), 2, []byte{0, 1, 0, 1}, "read discrete input 1"},
		"read holding":    {readRequest(holdingRegisters, 0x6B, 3), 3, []byte{0, 0x6B, 0, 3}, "read holding registers 107 to 109"},
		"read input":      {readRequest(inputRegisters, 65535, 1), 4, []byte{0xFF, 0xFF, 0, 1}, "read input register 65535"},
		"coil on":         {writeCoil(0xAC, true), 5, []byte{0, 0xAC, 0xFF, 0}, "write coil 172"},
		"coil off":        {writeCoil(0xAC, false), 5, []byte{0, 0xAC, 0, 0}, "write coil 172"},
		"coil, FC 15":     {writeCoil(2, true).asMultiple(), 15, []byte{0, 2, 0, 1, 1, 1}, "write coil 2"},
		"register":        {writeRegisters(1, []byte{0, 3}), 6, []byte{0, 1, 0, 3}, "write holding register 1"},
		"register, FC 16": {writeRegisters(1, []byte{0, 3}).asMultiple(), 16, []byte{0, 1, 0, 1, 2, 0, 3}, "write holding register 1"},
		"registers":       {writeRegisters(1, []byte{0, 10, 1, 2}), 16, []byte{0, 1, 0, 2, 4, 0, 10, 1, 2}, "write holding registers 1 to 2"},
	} {
		if c.r.pdu.FunctionCode != c.fc || !bytes.Equal(c.r.pdu.Data, c.data) || c.r.String() != c.text {
			t.Errorf("%s: FC %d % x %q", name, c.r.pdu.FunctionCode, c.r.pdu.Data, c.r)
		}
	}
}

func TestRepliesAreChecked(t *testing.T) {
	read, bits, write := readRequest(holdingRegisters, 0, 2), readRequest(coils, 0, 9), writeRegisters(1, []byte{0, 3})
	for name, c := range map[string]struct {
		r    *request
		pdu  []byte
		want string // in the error; "" means accepted
	}{
		"right":                  {read, []byte{3, 4, 1, 2, 3, 4}, ""},
		"right bits":             {bits, []byte{1, 2, 1, 1}, ""},
		"right echo":             {write, []byte{6, 0, 1, 0, 3}, ""},
		"empty":                  {read, nil, "empty"},
		"other function":         {read, []byte{4, 4, 1, 2, 3, 4}, "function 4 instead of 3"},
		"no count":               {read, []byte{3}, "instead of 4"},
		"count lies":             {read, []byte{3, 6, 1, 2, 3, 4}, "announced as 6"},
		"too short":              {read, []byte{3, 2, 1, 2}, "instead of 4"},
		"too long":               {read, []byte{3, 6, 1, 2, 3, 4, 5, 6}, "instead of 4"},
		"exception":              {read, []byte{0x83, 2}, "illegal data address (2): read holding registers 0 to 1: the device has no such address"},
		"exception without code": {read, []byte{0x83}, "exception of 1 bytes"},
		"exception too long":     {read, []byte{0x83, 2, 3}, "exception of 3 bytes"},
		"unknown exception":      {read, []byte{0x83, 99}, "unknown exception (99)"},
		"exception of another":   {read, []byte{0x84, 2}, "function 132"},
		"echo of another value":  {write, []byte{6, 0, 1, 0, 4}, "repeats"},
		"echo cut":               {write, []byte{6, 0, 1}, "repeats"},
	} {
		_, err := c.r.check(c.pdu)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	request := []byte{0, 7, 0, 0, 0, 6, 1}
	for name, c := range map[string]struct {
		header []byte
		want   int
		err    string
	}{
		"right":              {[]byte{0, 7, 0, 0, 0, 6, 1}, 5, ""},
		"other transaction":  {[]byte{0, 8, 0, 0, 0, 6, 1}, 0, "transaction id 8 instead of 7"},
		"not Modbus":         {[]byte{0, 7, 1, 0, 0, 6, 1}, 0, "does not speak Modbus"},
		"no PDU":             {[]byte{0, 7, 0, 0, 0, 1, 1}, 0, "0 bytes"},
		"length 0":           {[]byte{0, 7, 0, 0, 0, 0, 1}, 0, "-1 bytes"},
		"too long":           {[]byte{0, 7, 0, 0, 0xFF, 0xFF, 1}, 0, "65534 bytes"},
		"other unit":         {[]byte{0, 7, 0, 0, 0, 6, 2}, 0, "unit 2 answered instead of unit 1"},
		"cut":                {[]byte{0, 7, 0}, 0, "3 bytes instead of 7"},
		"largest PDU":        {[]byte{0, 7, 0, 0, 0, 254, 1}, 253, ""},
		"one byte too large": {[]byte{0, 7, 0, 0, 0, 255, 1}, 0, "254 bytes"},
	} {
		n, err := replyLength(request, c.header)
		if n != c.want || c.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

// FuzzReply feeds arbitrary bytes as a reply: no panic, and data that is accepted has exactly the size asked for.
func FuzzReply(f *testing.F) {
	f.Add(uint8(2), uint16(2), []byte{0, 7, 0, 0, 0, 7, 1, 3, 4, 1, 2, 3, 4})
	f.Add(uint8(0), uint16(9), []byte{0, 7, 0, 0, 0, 3, 1, 0x81, 2})
	f.Fuzz(func(t *testing.T, tb uint8, n uint16, reply []byte) {
		r := readRequest(table(tb%4), 0, n%2000+1)
		adu := []byte{0, 7, 0, 0, 0, 6, 1}
		if len(reply) < headerSize {
			return
		}
		length, err := replyLength(adu, reply[:headerSize])
		if err != nil {
			return
		}
		if length > maxPDU {
			t.Fatalf("a PDU of %d bytes was accepted", length)
		}
		if len(reply) < headerSize+length {
			return
		}
		data, err := r.check(reply[headerSize : headerSize+length])
		var ex *exception
		if err != nil {
			if errors.As(err, &ex) && ex.Error() == "" {
				t.Error("an exception without words")
			}
			return
		}
		want := int(r.quantity) * 2
		if r.table.bits() {
			want = (int(r.quantity) + 7) / 8
		}
		if len(data) != want {
			t.Fatalf("%d bytes accepted for %s", len(data), r)
		}
	})
}
