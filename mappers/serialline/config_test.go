package serialline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

func TestCharacterArithmetic(t *testing.T) {
	for _, c := range []struct {
		cfg            serialline.Config
		bits           int
		char, t15, t35 time.Duration
	}{
		{serialline.Config{}, 10, 1041667, 1562500, 3645834},
		{serialline.Config{Baud: 9600, Parity: serialline.ParityEven}, 11, 1145834, 1718750, 4010417},
		{serialline.Config{Baud: 19200, Parity: serialline.ParityEven}, 11, 572917, 859375, 2005209},
		{serialline.Config{Baud: 19201, Parity: serialline.ParityEven}, 11, 572887, 750000, 1750000},
		{serialline.Config{Baud: 115200, StopBits: 2}, 11, 95487, 750000, 1750000},
		{serialline.Config{Baud: 300, DataBits: 7, Parity: serialline.ParityOdd}, 10, 33333334, 50000000, 116666667},
	} {
		if c.cfg.CharBits() != c.bits || c.cfg.CharTime(1) != c.char || c.cfg.CharGap() != c.t15 || c.cfg.FrameGap() != c.t35 {
			t.Errorf("%s: %d bits, %d, t1.5 %d, t3.5 %d", c.cfg, c.cfg.CharBits(), c.cfg.CharTime(1), c.cfg.CharGap(), c.cfg.FrameGap())
		}
		if ten := c.cfg.CharTime(10); ten > 10*c.char || ten < 10*c.char-10 {
			t.Errorf("%s: ten characters take %v, one %v", c.cfg, ten, c.char)
		}
	}
}

func TestFields(t *testing.T) {
	f := device.NewFields("x", map[string]any{"serialPort": "/dev/../dev/ttyUSB0", "baudRate": "19200", "parity": "Even", "stopBits": 2, "dataBits": 7, "rs485": "RTS",
		"rtsBefore": 0.5, "rtsAfter": 2, "rtsLowOnSend": true, "echo": "yes"})
	got := serialline.FromFields(f)
	want := serialline.Config{Path: "/dev/ttyUSB0", Baud: 19200, Parity: serialline.ParityEven, StopBits: 2, DataBits: 7, Direction: serialline.DirectionRTS,
		RTSBefore: 500 * time.Microsecond, RTSAfter: 2 * time.Millisecond, SendLow: true, Echo: true}
	if err := f.Err(serialline.Describe()); err != nil || !got.SameLine(want) || got.String() != "/dev/ttyUSB0 (19200 7E2)" {
		t.Errorf("%+v, %v", got, err)
	}
	want.Baud = 9600
	if got.SameLine(want) {
		t.Error("another baud rate is the same line")
	}
	for _, c := range []struct {
		data map[string]any
		want string
	}{
		{map[string]any{}, "x.serialPort: is missing"},
		{map[string]any{"tty": "COM1"}, `x.serialPort: "COM1": is not the path`},
		{map[string]any{"tty": "/dev/ttyS0", "stopBits": 1.5}, `x.stopBits: "1.5": is not supported`},
		{map[string]any{"tty": "/dev/ttyS0", "stopBits": 3}, `x.stopBits: "3": is not a number of stop bits; allowed: 1, 2`},
		{map[string]any{"tty": "/dev/ttyS0", "baudRate": 49}, "x.baudRate: 49: is out of range"},
		{map[string]any{"tty": "/dev/ttyS0", "dataBits": 9}, "x.dataBits: 9: is out of range"},
		{map[string]any{"tty": "/dev/ttyS0", "parity": "evn"}, "x.parity: \"evn\": is not known; allowed: none, even"},
		{map[string]any{"tty": "/dev/ttyS0", "flowControl": "rtscts", "rs485": "kernel"}, "x.flowControl"},
		{map[string]any{"tty": "/dev/ttyS0", "rtsAfter": 1}, "x.rs485"},
		{map[string]any{"tty": "/dev/ttyS0", "rs485": "rts", "rtsAfter": 500}, `x.rtsAfter: "500": is out of range`},
		{map[string]any{"tty": "/dev/ttyS0", "pairty": "even"}, "x.pairty: unknown field"},
	} {
		f := device.NewFields("x", c.data)
		serialline.FromFields(f)
		if err := f.Err(serialline.Describe()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.data, err)
		}
	}
}
