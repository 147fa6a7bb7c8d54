package serialline

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// pathNames are the accepted spellings of the field that names the port; the first one is ours.
var pathNames = []string{"serialPort", "devicePath", "tty"}

// Given tells whether a device's configuration names a serial port.
func Given(f *device.Fields) bool { return f.Has(pathNames...) }

// Ignore accepts the settings of a line where they mean nothing, e.g. beside the address of a serial server.
func Ignore(f *device.Fields) {
	for _, d := range Describe() {
		f.Ignore(append(d.Aliases, d.Name)...)
	}
}

const maxPath = 255

// Describe is the reference of the fields that FromFields reads.
func Describe() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "serialPort", Aliases: pathNames[1:], Meaning: "device file of the port; a udev link keeps its name when the adapter is plugged in elsewhere", Default: "required", Allowed: "an absolute path, e.g. /dev/serial/by-id/…"},
		{Name: "baudRate", Aliases: []string{"baud"}, Meaning: "bits per second, odd ones too", Default: "9600", Allowed: "50 to 4000000"},
		{Name: "dataBits", Meaning: "data bits of a character", Default: "8", Allowed: "5 to 8"},
		{Name: "parity", Meaning: "parity of a character", Default: "none", Allowed: "none, even, odd, mark, space; or N, E, O, M, S"},
		{Name: "stopBits", Meaning: "stop bits of a character", Default: "1", Allowed: "1, 2"},
		{Name: "flowControl", Meaning: "rtscts: the port waits for CTS", Default: "none", Allowed: "none, rtscts"},
		{Name: "rs485", Meaning: "who switches the transmitter of a two-wire line: the adapter itself, the kernel (TIOCSRS485), or the agent by RTS", Default: "auto", Allowed: "auto, kernel, rts"},
		{Name: "rtsLowOnSend", Meaning: "RTS is low while sending, for rs485 kernel and rts", Default: "false", Allowed: "true, false"},
		{Name: "rtsBefore", Meaning: "how long RTS stands before the first bit, in milliseconds, for rs485 kernel (whole ones) and rts", Default: "0", Allowed: "0 to 100"},
		{Name: "rtsAfter", Meaning: "how long RTS stands after the last bit, in milliseconds, for rs485 kernel (whole ones) and rts", Default: "0", Allowed: "0 to 100"},
		{Name: "echo", Meaning: "whatever is sent comes back and has to be thrown away: two-wire adapters whose receiver stays on", Default: "false", Allowed: "true, false"},
	}
}

var (
	parityWords = map[string]Parity{
		"none": ParityNone, "n": ParityNone, "no": ParityNone, "even": ParityEven, "e": ParityEven, "odd": ParityOdd, "o": ParityOdd,
		"mark": ParityMark, "m": ParityMark, "space": ParitySpace, "s": ParitySpace,
	}
	directionWords = map[string]Direction{
		"auto": DirectionAuto, "none": DirectionAuto, "kernel": DirectionKernel, "rts": DirectionRTS,
	}
)

// FromFields reads a line's settings without I/O; what is wrong is recorded in f.
func FromFields(f *device.Fields) Config {
	var c Config
	const pathAllowed = "an absolute path, e.g. /dev/serial/by-id/…"
	f.Require(pathAllowed, pathNames...)
	c.Path = f.Text("", pathNames...)
	if c.Path != "" && (!filepath.IsAbs(c.Path) || len(c.Path) > maxPath || strings.ContainsFunc(c.Path, func(r rune) bool { return r < ' ' })) {
		f.Fail(pathNames[0], c.Path, "is not the path of a device file", pathAllowed)
	}
	c.Path = filepath.Clean(c.Path)
	c.Baud = int(f.Int(9600, 50, 4_000_000, "baudRate", "baud"))
	c.DataBits = int(f.Int(8, 5, 8, "dataBits"))
	c.Parity = device.Choice(f, ParityNone, parityWords, []string{"none", "even", "odd", "mark", "space"}, "parity")
	c.StopBits = stopBits(f)
	c.HardwareFlow = device.Choice(f, false, map[string]bool{"none": false, "rtscts": true, "rts/cts": true, "hardware": true}, []string{"none", "rtscts"}, "flowControl")
	c.Direction = device.Choice(f, DirectionAuto, directionWords, []string{"auto", "kernel", "rts"}, "rs485")
	c.SendLow = f.Bool(false, "rtsLowOnSend")
	c.RTSBefore = delay(f, "rtsBefore")
	c.RTSAfter = delay(f, "rtsAfter")
	c.Echo = f.Bool(false, "echo")
	if c.HardwareFlow && c.Direction != DirectionAuto {
		f.Fail("flowControl", "rtscts", "needs RTS, which rs485 uses for the direction", "none, or rs485: auto")
	}
	if c.Direction == DirectionAuto && (c.SendLow || c.RTSBefore != 0 || c.RTSAfter != 0) {
		f.Fail("rs485", "auto", "leaves RTS alone, and rtsLowOnSend, rtsBefore or rtsAfter is given", "kernel, rts; or leave those out")
	}
	return c
}

// stopBits refuses 1.5 in its own words: the kernel has no setting for it.
func stopBits(f *device.Fields) int {
	n := f.Float(1, "stopBits")
	switch n {
	case 1, 2:
		return int(n)
	case 1.5:
		f.Fail("stopBits", "1.5", "is not supported: Linux has no such setting (2 works with most devices that ask for 1.5)", "1, 2")
	default:
		f.Fail("stopBits", strconv.FormatFloat(n, 'f', -1, 64), "is not a number of stop bits", "1, 2")
	}
	return 1
}

func delay(f *device.Fields, name string) time.Duration {
	ms := f.Float(0, name)
	if !(ms >= 0 && ms <= 100) {
		f.Fail(name, strconv.FormatFloat(ms, 'f', -1, 64), "is out of range", "0 to 100")
		return 0
	}
	return time.Duration(math.Round(ms*1000)) * time.Microsecond
}
