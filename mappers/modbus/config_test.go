package modbus

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

func TestDeviceSpellings(t *testing.T) {
	for name, c := range map[string]struct {
		data map[string]any
		want config
	}{
		"ours":             {map[string]any{"ip": "10.0.0.7", "port": uint64(1502), "slaveID": int64(3)}, config{endpoint: "10.0.0.7:1502", unit: 3, timeout: time.Second}},
		"strings":          {map[string]any{"ip": "10.0.0.7", "port": "1502", "slaveID": "3", "timeout": "200"}, config{endpoint: "10.0.0.7:1502", unit: 3, timeout: 200 * time.Millisecond}},
		"floats":           {map[string]any{"ip": "10.0.0.7", "port": 1502.0, "unitID": 3.0}, config{endpoint: "10.0.0.7:1502", unit: 3, timeout: time.Second}},
		"defaults":         {map[string]any{"host": "plc.local"}, config{endpoint: "plc.local:502", unit: 1, timeout: time.Second}},
		"host:port":        {map[string]any{"address": "plc:5020"}, config{endpoint: "plc:5020", unit: 1, timeout: time.Second}},
		"IPv6":             {map[string]any{"ip": "fd00::1"}, config{endpoint: "[fd00::1]:502", unit: 1, timeout: time.Second}},
		"template residue": {map[string]any{"ip": "10.0.0.7", "serialPort": "", "baudRate": 9600, "serialType": "TCP", "parity": nil}, config{endpoint: "10.0.0.7:502", unit: 1, timeout: time.Second}},
	} {
		got, err := parseConfig(device.Config{Protocol: c.data})
		c.want.limits = limits{registers: 125, bits: 2000}
		c.want.busyRetries, c.want.busyPause, c.want.broadcastPause, c.want.pipeline, c.want.holeRetry = 3, 100*time.Millisecond, 100*time.Millisecond, 1, time.Minute
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", name, got, err, c.want)
		}
	}
}

func TestVisitorSpellings(t *testing.T) {
	for name, c := range map[string]struct {
		t    device.Type
		data map[string]any
		want string
	}{
		"KubeEdge int":         {device.TypeInt, map[string]any{"register": "HoldingRegister", "offset": 2, "limit": 1, "scale": 1, "isSwap": true, "isRegisterSwap": true}, "holding register 2 (int16 BA)"},
		"KubeEdge 32-bit":      {device.TypeInt, map[string]any{"register": "InputRegister", "offset": "2", "limit": 2.0}, "input register 2 (int32)"},
		"KubeEdge float":       {device.TypeFloat, map[string]any{"register": "HoldingRegister", "offset": 2, "limit": 2, "isRegisterSwap": "true"}, "holding register 2 (float32 CDAB)"},
		"KubeEdge scaled":      {device.TypeFloat, map[string]any{"register": "HoldingRegister", "offset": 2, "limit": 1, "scale": 0.1}, "holding register 2 (int16 × 0.1)"},
		"KubeEdge coil":        {device.TypeBoolean, map[string]any{"register": "CoilRegister", "offset": 2, "limit": 1}, "coil 2 (bool)"},
		"KubeEdge discrete":    {device.TypeBoolean, map[string]any{"register": "DiscreteInputRegister", "offset": 2}, "discrete input 2 (bool)"},
		"ours":                 {device.TypeInt, map[string]any{"register": "holding", "offset": 40, "type": "uint32", "wordOrder": "cdab"}, "holding register 40 (uint32 CDAB)"},
		"double":               {device.TypeDouble, map[string]any{"register": "holding", "offset": 40}, "holding register 40 (float64)"},
		"hexadecimal":          {device.TypeInt, map[string]any{"register": "holding", "offset": "0x10"}, "holding register 16 (int16)"},
		"boolean in register":  {device.TypeBoolean, map[string]any{"register": "holding", "offset": 1}, "holding register 1 (bool)"},
		"last register":        {device.TypeInt, map[string]any{"register": "holding", "offset": 65534, "limit": 2}, "holding register 65534 (int32)"},
		"one-based":            {device.TypeInt, map[string]any{"register": "holding", "offset": 65536, "addressing": "one"}, "holding register 65535 (int16)"},
		"modicon 40001":        {device.TypeInt, map[string]any{"offset": 40001.0, "addressing": "modicon"}, "holding register 0 (int16)"},
		"modicon 465536":       {device.TypeInt, map[string]any{"address": "465536", "addressing": "modicon", "register": "holding"}, "holding register 65535 (int16)"},
		"modicon 30010":        {device.TypeInt, map[string]any{"offset": 30010, "addressing": "modicon"}, "input register 9 (int16)"},
		"modicon 100001":       {device.TypeBoolean, map[string]any{"offset": 100001, "addressing": "modicon"}, "discrete input 0 (bool)"},
		"modicon coil":         {device.TypeBoolean, map[string]any{"offset": 17, "addressing": "modicon"}, "coil 16 (bool)"},
		"modicon coil 010001":  {device.TypeBoolean, map[string]any{"offset": "010001", "addressing": "modicon"}, "coil 10000 (bool)"},
		"everything":           {device.TypeFloat, map[string]any{"register": "holding", "offset": 1, "type": "uint32", "wordOrder": "CDAB", "mask": "0xFFF0", "shift": 4, "scale": 0.5, "valueOffset": -1, "readBack": false}, "holding register 1 (uint32 CDAB & 0xfff0 >> 4 × 0.5 + -1, no read-back)"},
		"a string":             {device.TypeString, map[string]any{"register": "holding", "offset": 1, "limit": 8}, "holding register 1 (string of 8 registers)"},
		"bytes":                {device.TypeBytes, map[string]any{"register": "holding", "offset": 1, "limit": 8, "byteOrder": "BA"}, "holding register 1 (bytes of 8 registers BA)"},
		"bit":                  {device.TypeBoolean, map[string]any{"register": "input", "offset": 1, "bit": "3"}, "input register 1 (bool, bit 3)"},
		"low byte":             {device.TypeInt, map[string]any{"register": "input", "offset": 1, "type": "uint8-low"}, "input register 1 (uint8-low)"},
		"a number as a STRING": {device.TypeString, map[string]any{"register": "holding", "offset": 1, "type": "uint16"}, "holding register 1 (uint16)"},
	} {
		p, err := parsePoint(device.PointConfig{Property: "p", Path: "x", Type: c.t, Visitor: c.data})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if p.String() != c.want {
			t.Errorf("%s: %s, want %s", name, p, c.want)
		}
	}
}

func TestMessagesNameFieldValueAndRemedy(t *testing.T) {
	_, err := parsePoint(device.PointConfig{Property: "p", Path: "spec.properties[p].visitors.configData", Type: device.TypeInt, Visitor: map[string]any{"register": "FooRegister", "offset": 70000}})
	for _, want := range []string{
		`spec.properties[p].visitors.configData.register: "FooRegister": is not known; allowed: holding (HoldingRegister), input`,
		`spec.properties[p].visitors.configData.offset: 70000: is out of range; allowed: a whole number from 0 to 65535`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not say %q", err, want)
		}
	}
	_, err = parseConfig(device.Config{Protocol: map[string]any{"serialPort": "/dev/ttyS0", "serialType": "TCP", "ip": "10.0.0.1"}})
	if err == nil || !strings.Contains(err.Error(), `spec.protocol.configData.serialPort: "/dev/ttyS0": is for a serial line, and serialType or ip ask for TCP`) {
		t.Errorf("%v", err)
	}
}

func TestSerialSpellings(t *testing.T) {
	for name, c := range map[string]struct {
		data    map[string]any
		line    string
		framing framing
	}{
		"KubeEdge":        {map[string]any{"slaveID": 1, "serialPort": "/dev/ttyS0", "baudRate": 9600, "dataBits": 8, "parity": "even", "stopBits": 1, "serialType": "RS485"}, "/dev/ttyS0 (9600 8E1)", framingRTU},
		"port alone":      {map[string]any{"serialPort": "/dev/ttyS0"}, "/dev/ttyS0 (9600 8N1)", framingRTU},
		"template":        {map[string]any{"serialPort": "/dev/ttyS0", "ip": "", "baudRate": "19200"}, "/dev/ttyS0 (19200 8N1)", framingRTU},
		"ASCII, 7 bits":   {map[string]any{"mode": "ascii", "serialPort": "/dev/ttyS0", "dataBits": 7, "parity": "E"}, "/dev/ttyS0 (9600 7E1)", framingASCII},
		"RTU, our way":    {map[string]any{"mode": "RTU", "serialPort": "/dev/serial/by-id/x"}, "/dev/serial/by-id/x (9600 8N1)", framingRTU},
		"broadcast, unit": {map[string]any{"serialPort": "/dev/ttyS0", "slaveID": 0}, "/dev/ttyS0 (9600 8N1)", framingRTU},
	} {
		got, err := parseConfig(device.Config{Protocol: c.data})
		if err != nil || got.serial == nil || got.serial.String() != c.line || got.framing != c.framing || got.retries != 1 || got.broadcast != (got.unit == 0) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}
