package modbus

import (
	"bytes"
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
		"coil, FC 15":     {writeMany(coils, 2, 1, []byte{1}), 15, []byte{0, 2, 0, 1, 1, 1}, "write coil 2"},
		"register":        {writeRegister(1, []byte{0, 3}), 6, []byte{0, 1, 0, 3}, "write holding register 1"},
		"register, FC 16": {writeMany(holdingRegisters, 1, 1, []byte{0, 3}), 16, []byte{0, 1, 0, 1, 2, 0, 3}, "write holding register 1"},
		"registers":       {writeMany(holdingRegisters, 1, 2, []byte{0, 10, 1, 2}), 16, []byte{0, 1, 0, 2, 4, 0, 10, 1, 2}, "write holding registers 1 to 2"},
		// The examples of sections 6.16 and 6.17.
		"mask":           {maskWrite(4, ^uint16(0xF2), 0x25), 22, []byte{0, 4, 0, 0xF2, 0, 0x25}, "write holding register 4"},
		"write and read": {writeAndRead(14, []byte{0, 0xFF, 0, 0xFE}), 23, []byte{0, 14, 0, 2, 0, 14, 0, 2, 4, 0, 0xFF, 0, 0xFE}, "write and read back holding registers 14 to 15"},
		"identify":       {identify(1, 0), 43, []byte{14, 1, 0}, "read device identification"},
	} {
		if c.r.pdu.FunctionCode != c.fc || !bytes.Equal(c.r.pdu.Data, c.data) || c.r.String() != c.text {
			t.Errorf("%s: FC %d % x %q", name, c.r.pdu.FunctionCode, c.r.pdu.Data, c.r)
		}
	}
}

func TestRepliesAreChecked(t *testing.T) {
	read, bits, write := readRequest(holdingRegisters, 0, 2), readRequest(coils, 0, 9), writeRegister(1, []byte{0, 3})
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
