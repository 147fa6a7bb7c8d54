package modbus

import (
	"fmt"
	"strconv"

	"github.com/skerry/skerry/mappers/device"
)

// addressing is how a visitor counts.
type addressing uint8

const (
	zeroBased addressing = iota // as on the wire
	oneBased                    // the first register is 1
	modicon                     // 40001 or 400001: the first digit is the table, the rest is one-based
)

var (
	addressingWords   = map[string]addressing{"zero": zeroBased, "zerobased": zeroBased, "0": zeroBased, "one": oneBased, "onebased": oneBased, "1": oneBased, "modicon": modicon, "plc": modicon}
	addressingAllowed = []string{"zero", "one", "modicon (5 or 6 digits, as 40001 or 400001)"}
	modiconTables     = map[int64]table{0: coils, 1: discreteInputs, 3: inputRegisters, 4: holdingRegisters}
)

const modiconAllowed = "1 to 9999 or 00001 to 065536 (coils), 10001 to 19999 or 100001 to 165536 (discrete inputs), 30001 to 39999 or 300001 to 365536 (input registers), 40001 to 49999 or 400001 to 465536 (holding registers)"

// parseAddress reads table and address.
func parseAddress(f *device.Fields) (t table, addr uint16) {
	how := device.Choice(f, zeroBased, addressingWords, addressingAllowed, "addressing")
	t = device.Choice(f, holdingRegisters, registerWords, registerAllowed, "register", "table")
	if how == modicon {
		return parseModicon(f, t)
	}
	f.Require("holding, input, coil, discrete", "register", "table")
	if how == oneBased {
		f.Require("1 to 65536", "offset", "address")
		return t, uint16(f.Int(1, 1, 65536, "offset", "address") - 1)
	}
	f.Require("0 to 65535", "offset", "address")
	return t, uint16(f.Int(0, 0, 65535, "offset", "address"))
}

// parseModicon reads an address whose first digit is the table. A number cannot have leading zeros, so coils of six digits
// have to be strings.
func parseModicon(f *device.Fields, given table) (table, uint16) {
	f.Require(modiconAllowed, "offset", "address")
	text := f.Text("", "offset", "address")
	if text == "" {
		return given, 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	unit := int64(10000)
	if len(text) == 6 {
		unit = 100000
	}
	t, ok := modiconTables[n/unit]
	if err != nil || len(text) > 6 || n < 1 || n%unit < 1 || n%unit > 65536 || !ok {
		f.Fail("offset", text, "is not an address of 5 or 6 digits", modiconAllowed)
		return given, 0
	}
	if f.Has("register", "table") && t != given {
		f.Fail("register", given.String(), fmt.Sprintf("contradicts offset %s, which is a %s", text, t), t.String()+", or leave it out")
	}
	return t, uint16(n%unit - 1)
}
