package modbus

import (
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/modbus/modbustest"
)

// visitor is a property's configuration for tests.
func visitor(name string, t device.Type, writable bool, kv ...any) device.PointConfig {
	m := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return device.PointConfig{Property: name, Path: "spec.properties[" + name + "].visitors.configData", Type: t, Writable: writable, Visitor: m}
}

func configFor(srv *modbustest.Server, unit int) device.Config {
	return device.Config{Device: "ns/dev", Protocol: map[string]any{"ip": "127.0.0.1", "port": srv.Port(), "slaveID": unit, "timeout": 600}}
}

// traffic counts what a server has seen. It takes the server's log.
func traffic(srv *modbustest.Server) func() (connections, writes int) {
	seen := 0
	return func() (int, int) {
		for _, r := range srv.TakeLog() {
			if r.Function > 4 {
				seen++
			}
		}
		return srv.Accepted(), seen
	}
}

func TestDriverConforms(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		srv := modbustest.Start(t)
		srv.Unit(1).SetHolding(10, 0x41AC, 0x0000)
		srv.Unit(1).SetCoil(3, true)
		return devicetest.Subject{
			Driver: hasty(), Config: configFor(srv, 1),
			Read: []device.PointConfig{
				visitor("temperature", device.TypeFloat, false, "register", "holding", "offset", 10, "type", "float32"),
				visitor("pump", device.TypeBoolean, false, "register", "coil", "offset", 3),
			},
			Write:  visitor("setpoint", device.TypeInt, true, "register", "HoldingRegister", "offset", 20, "limit", 2),
			Values: [2]device.Value{device.Int(-70000), device.Int(12)},
			Kill:   srv.Kill,
			Hang:   func() { srv.Misbehave(modbustest.Silent) },
			Flood:  func() { srv.Misbehave(modbustest.Endless) },
			Revive: func() {
				srv.Misbehave(modbustest.None)
				srv.Kill()
				srv.Restart()
			},
			Traffic:  traffic(srv),
			Recovery: 6 * time.Second,
			BadConfigs: []devicetest.Bad{
				{Name: "no ip", Data: map[string]any{"port": 502}, Field: "ip"},
				{Name: "ip with scheme", Data: map[string]any{"ip": "tcp://10.0.0.1"}, Field: "ip"},
				{Name: "port out of range", Data: map[string]any{"ip": "10.0.0.1", "port": 70000}, Field: "port"},
				{Name: "port not a number", Data: map[string]any{"ip": "10.0.0.1", "port": "modbus"}, Field: "port"},
				{Name: "slaveID out of range", Data: map[string]any{"ip": "10.0.0.1", "slaveID": 256}, Field: "slaveID"},
				{Name: "RTU over an ip", Data: map[string]any{"ip": "10.0.0.1", "serialType": "RS485"}, Field: "ip"},
				{Name: "RTU without port", Data: map[string]any{"serialType": "RTU"}, Field: "serialPort"},
				{Name: "unit 248 on a line", Data: map[string]any{"serialPort": "/dev/ttyS0", "slaveID": 248}, Field: "slaveID"},
				{Name: "ip beside a port", Data: map[string]any{"ip": "10.0.0.1", "serialPort": "/dev/ttyS0"}, Field: "serialPort"},
				{Name: "line settings alone", Data: map[string]any{"baudRate": 9600}, Field: "ip"},
				{Name: "unknown transport", Data: map[string]any{"ip": "10.0.0.1", "serialType": "UDP"}, Field: "serialType"},
				{Name: "misspelt field", Data: map[string]any{"ip": "10.0.0.1", "slaveIdd": 1}, Field: "slaveIdd"},
				{Name: "backup with scheme", Data: map[string]any{"ip": "10.0.0.1", "backup": "http://x"}, Field: "backup"},
				{Name: "listen and ip", Data: map[string]any{"ip": "10.0.0.1", "listen": ":5020"}, Field: "ip"},
				{Name: "listen without port", Data: map[string]any{"listen": "127.0.0.1"}, Field: "listen"},
				{Name: "listen from nowhere", Data: map[string]any{"listen": ":5020", "listenFrom": "here"}, Field: "listenFrom"},
				{Name: "pipelined RTU", Data: map[string]any{"ip": "10.0.0.1", "serialType": "RTUoverTCP", "pipeline": 4}, Field: "pipeline"},
				{Name: "capture of nothing", Data: map[string]any{"ip": "10.0.0.1", "capture": 1}, Field: "capture"},
				{Name: "broadcast to one", Data: map[string]any{"ip": "10.0.0.1", "broadcast": true}, Field: "slaveID"},
				{Name: "two ids", Data: map[string]any{"ip": "10.0.0.1", "slaveID": 1, "unitID": 2}, Field: "unitID"},
			},
			BadVisitors: []devicetest.Bad{
				{Name: "unknown register", Data: map[string]any{"register": "FooRegister", "offset": 1}, Field: "register"},
				{Name: "no register", Data: map[string]any{"offset": 1}, Field: "register"},
				{Name: "no offset", Data: map[string]any{"register": "holding"}, Field: "offset"},
				{Name: "offset too large", Data: map[string]any{"register": "holding", "offset": 65536}, Field: "offset"},
				{Name: "negative offset", Data: map[string]any{"register": "holding", "offset": -1}, Field: "offset"},
				{Name: "value beyond the end", Data: map[string]any{"register": "holding", "offset": 65535, "type": "int32"}, Field: "offset"},
				{Name: "wrong limit", Data: map[string]any{"register": "holding", "offset": 1, "type": "int32", "limit": 1}, Field: "limit"},
				{Name: "odd limit", Data: map[string]any{"register": "holding", "offset": 1, "limit": 3}, Field: "limit"},
				{Name: "unknown type", Data: map[string]any{"register": "holding", "offset": 1, "type": "int24"}, Field: "type"},
				{Name: "unknown order", Data: map[string]any{"register": "holding", "offset": 1, "wordOrder": "ACBD"}, Field: "wordOrder"},
				{Name: "two orders", Data: map[string]any{"register": "holding", "offset": 1, "wordOrder": "ABCD", "isSwap": true}, Field: "wordOrder"},
				{Name: "8 bytes of an int32", Data: map[string]any{"register": "holding", "offset": 1, "type": "int32", "wordOrder": "HGFEDCBA"}, Field: "wordOrder"},
				{Name: "one-based 0", Data: map[string]any{"register": "holding", "offset": 0, "addressing": "one"}, Field: "offset"},
				{Name: "modicon 20001", Data: map[string]any{"offset": 20001, "addressing": "modicon"}, Field: "offset"},
				{Name: "modicon 40000", Data: map[string]any{"offset": 40000, "addressing": "modicon"}, Field: "offset"},
				{Name: "modicon 465537", Data: map[string]any{"offset": 465537, "addressing": "modicon"}, Field: "offset"},
				{Name: "modicon contradiction", Data: map[string]any{"offset": 40001, "register": "coil", "addressing": "modicon"}, Field: "register"},
				{Name: "bit 16", Data: map[string]any{"register": "holding", "offset": 1, "type": "bool", "bit": 16}, Field: "bit"},
				{Name: "bit of an int16", Data: map[string]any{"register": "holding", "offset": 1, "type": "int16", "bit": 1}, Field: "bit"},
				{Name: "mask of an int16", Data: map[string]any{"register": "holding", "offset": 1, "type": "int16", "mask": 1}, Field: "mask"},
				{Name: "mask too wide", Data: map[string]any{"register": "holding", "offset": 1, "type": "uint16", "mask": "0x10000"}, Field: "mask"},
				{Name: "shift without mask", Data: map[string]any{"register": "holding", "offset": 1, "type": "uint16", "shift": 1}, Field: "shift"},
				{Name: "shift loses bits", Data: map[string]any{"register": "holding", "offset": 1, "type": "uint16", "mask": 3, "shift": 1}, Field: "shift"},
				{Name: "fixed float", Data: map[string]any{"register": "holding", "offset": 1, "type": "float32", "fractionBits": 3}, Field: "fractionBits"},
				{Name: "min above max", Data: map[string]any{"register": "holding", "offset": 1, "min": 3, "max": 1}, Field: "min"},
				{Name: "string without length", Data: map[string]any{"register": "holding", "offset": 1, "type": "string"}, Field: "limit"},
				{Name: "string as INT", Data: map[string]any{"register": "holding", "offset": 1, "type": "string", "limit": 4}, Field: "type"},
				{Name: "padding of a number", Data: map[string]any{"register": "holding", "offset": 1, "padding": "space"}, Field: "padding"},
				{Name: "unknown charset", Data: map[string]any{"register": "holding", "offset": 1, "charset": "ebcdic"}, Field: "charset"},
				{Name: "scale 0", Data: map[string]any{"register": "holding", "offset": 1, "scale": 0}, Field: "scale"},
				{Name: "scale not a number", Data: map[string]any{"register": "holding", "offset": 1, "scale": "x"}, Field: "scale"},
				{Name: "writing an input register", Data: map[string]any{"register": "input", "offset": 1}, Field: "register"},
				{Name: "coil as int32", Data: map[string]any{"register": "coil", "offset": 1, "type": "int32"}, Field: "type"},
			},
		}
	})
}
