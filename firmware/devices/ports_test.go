package devices

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// described is a driver that says what fields a device has, and nothing else.
type described struct {
	device.Driver
	fields []device.FieldDoc
}

func (d described) Describe() device.Description { return device.Description{Device: d.fields} }

func TestPortNames(t *testing.T) {
	line := described{fields: []device.FieldDoc{{Name: "slaveID"}, {Name: "serialPort", Aliases: []string{"tty"}}}}
	network := described{fields: []device.FieldDoc{{Name: "ip"}}}
	ports := []Port{
		{Name: "rs485-1", Path: "/dev/ttyRS485", Paths: []string{"/dev/ttyRS485-0", "/dev/ttyRS485"}, Mode: "kernel"},
		{Name: "rs232-1", Path: "/dev/ttyS1", Paths: []string{"/dev/ttyS1"}},
		{Name: "usb-1", Path: "/dev/ttyUSB0", Paths: []string{"/dev/ttyUSB0"}, Mode: "auto"},
	}
	type fields = map[string]any
	for _, tc := range []struct {
		what   string
		driver device.Driver
		in     fields
		want   fields // nil: unchanged
		err    string
	}{
		{"by name", line, fields{"serialPort": "rs485-1"}, fields{"serialPort": "/dev/ttyRS485", "rs485": "kernel"}, ""},
		{"another spelling", line, fields{"TTY": " RS485-1 "}, fields{"TTY": "/dev/ttyRS485", "rs485": "kernel"}, ""},
		{"the device's mode wins", line, fields{"serialPort": "rs485-1", "RS485": "auto"}, fields{"serialPort": "/dev/ttyRS485", "RS485": "auto"}, ""},
		{"by path the mode is the board's, too", line, fields{"serialPort": "/dev/ttyRS485-0"}, fields{"serialPort": "/dev/ttyRS485-0", "rs485": "kernel"}, ""},
		{"no mode", line, fields{"serialPort": "rs232-1"}, fields{"serialPort": "/dev/ttyS1"}, ""},
		{"auto is the default", line, fields{"serialPort": "usb-1"}, fields{"serialPort": "/dev/ttyUSB0"}, ""},
		{"another adapter", line, fields{"serialPort": "/dev/ttyACM0"}, nil, ""},
		{"no such port", line, fields{"serialPort": "rs485-9"}, nil, `serialPort: "rs485-9": the board has no serial port of this name; allowed: rs485-1, rs232-1, usb-1, or an absolute path`},
		{"no text", line, fields{"serialPort": 7}, nil, ""},
		{"over the network", line, fields{"ip": "rs485-1"}, nil, ""},
		{"a driver without lines", network, fields{"serialPort": "rs485-1"}, nil, ""},
	} {
		got := maps.Clone(tc.in)
		err := usePort(got, tc.driver, ports)
		if tc.want == nil {
			tc.want = tc.in
		}
		if !reflect.DeepEqual(got, tc.want) || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: %v, %v; want %v, %q", tc.what, got, err, tc.want, tc.err)
		}
	}
	in := fields{"serialPort": "rs485-1"}
	if err := usePort(in, line, nil); err != nil || in["serialPort"] != "rs485-1" {
		t.Errorf("a board without ports: %v, %v", in, err)
	}
}
