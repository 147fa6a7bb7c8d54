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
	return device.Config{Device: "ns/dev", Protocol: map[string]any{"ip": "127.0.0.1", "port": srv.Port(), "slaveID": unit, "timeout": 150}}
}

func TestDriverConforms(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		srv := modbustest.Start(t)
		srv.Unit(1).SetHolding(10, 0x41AC, 0x0000)
		srv.Unit(1).SetCoil(3, true)
		return devicetest.Subject{
			Driver: New(), Config: configFor(srv, 1),
			Read: []device.PointConfig{
				visitor("temperature", device.TypeFloat, false, "register", "holding", "offset", 10, "type", "float32"),
				visitor("pump", device.TypeBoolean, false, "register", "coil", "offset", 3),
			},
			Write:  visitor("setpoint", device.TypeInt, true, "register", "HoldingRegister", "offset", 20, "limit", 2),
			Values: [2]device.Value{device.Int(-70000), device.Int(12)},
			Kill:   srv.Kill,
			Hang:   func() { srv.Misbehave(modbustest.Silent) },
			Revive: func() {
				srv.Misbehave(modbustest.None)
				srv.Kill()
				srv.Restart()
			},
			Recovery: 6 * time.Second,
			BadConfigs: []devicetest.Bad{
				{Name: "no ip", Data: map[string]any{"port": 502}, Field: "ip"},
				{Name: "ip with scheme", Data: map[string]any{"ip": "tcp://10.0.0.1"}, Field: "ip"},
				{Name: "port out of range", Data: map[string]any{"ip": "10.0.0.1", "port": 70000}, Field: "port"},
				{Name: "port not a number", Data: map[string]any{"ip": "10.0.0.1", "port": "modbus"}, Field: "port"},
				{Name: "slaveID out of range", Data: map[string]any{"ip": "10.0.0.1", "slaveID": 256}, Field: "slaveID"},
				{Name: "RTU", Data: map[string]any{"ip": "10.0.0.1", "serialType": "RS485"}, Field: "serialType"},
				{Name: "serial port", Data: map[string]any{"serialPort": "/dev/ttyS0", "slaveID": 1}, Field: "serialPort"},
				{Name: "line settings alone", Data: map[string]any{"baudRate": 9600}, Field: "baudRate"},
				{Name: "misspelt field", Data: map[string]any{"ip": "10.0.0.1", "slaveIdd": 1}, Field: "slaveIdd"},
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
				{Name: "scale 0", Data: map[string]any{"register": "holding", "offset": 1, "scale": 0}, Field: "scale"},
				{Name: "scale not a number", Data: map[string]any{"register": "holding", "offset": 1, "scale": "x"}, Field: "scale"},
				{Name: "writing an input register", Data: map[string]any{"register": "input", "offset": 1}, Field: "register"},
				{Name: "coil as int32", Data: map[string]any{"register": "coil", "offset": 1, "type": "int32"}, Field: "type"},
			},
		}
	})
}
