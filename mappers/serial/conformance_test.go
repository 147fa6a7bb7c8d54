package serial

import (
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

func TestDriverConforms(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) devicetest.Subject {
		m := startMeter(t)
		m.set("temp", "21.5")
		m.set("run", "ON")
		m.set("set", "0")
		killed := false
		calm := func() {}
		port := func(kv ...any) map[string]any {
			d := devicetest.Data("serialPort", "/dev/ttyS0")
			for k, v := range devicetest.Data(kv...) {
				d[k] = v
			}
			return d
		}
		return devicetest.Subject{
			Driver: New(), Config: m.config("station", "01", "prefix", "{station}", "match", "=|OK|NO"),
			Read: []device.PointConfig{
				visitor(device.TypeFloat, "request", "{station}R temp\\r", "pattern", `temp=([\d.]+)`),
				visitor(device.TypeBoolean, "request", "{station}R run\\r", "pattern", `run=(\w+)`, "trueText", "ON", "falseText", "OFF"),
			},
			Write:  visitor(device.TypeInt, "request", "{station}R set\\r", "pattern", `set=(-?\d+)`, "write", "{station}W set {value:%d}\\r", "ack", "OK$", "nak", "NO"),
			Values: [2]device.Value{device.Int(-70000), device.Int(12)},
			Kill: func() {
				killed = true
				m.pty.Unplug()
			},
			Hang:  func() { m.hush(true) },
			Flood: func() { calm = m.flood(t) },
			Revive: func() {
				calm()
				calm = func() {}
				m.hush(false)
				if killed {
					killed = false
					m.pty.Replug()
					m.serve()
				}
			},
			Recovery: 6 * time.Second,
			BadConfigs: []devicetest.Bad{
				{Name: "no port", Data: devicetest.Data("baudRate", 9600), Field: "serialPort"},
				{Name: "two ways", Data: port("ip", "10.0.0.1", "port", 4001), Field: "ip"},
				{Name: "server without port", Data: devicetest.Data("ip", "10.0.0.1"), Field: "port"},
				{Name: "port without server", Data: port("port", 4001), Field: "port"},
				{Name: "host with scheme", Data: devicetest.Data("ip", "tcp://10.0.0.1", "port", 4001), Field: "ip"},
				{Name: "stop bits", Data: port("stopBits", 1.5), Field: "stopBits"},
				{Name: "framing", Data: port("framing", "lines"), Field: "framing"},
				{Name: "fixed without length", Data: port("framing", "fixed"), Field: "frameLength"},
				{Name: "length beyond the longest frame", Data: port("framing", "fixed", "frameLength", 2000), Field: "framing"},
				{Name: "delimiter of another framing", Data: port("framing", "slip", "delimiter", "\\n"), Field: "delimiter"},
				{Name: "bad escape", Data: port("delimiter", "\\q"), Field: "delimiter"},
				{Name: "checksum", Data: port("checksum", "crc-17"), Field: "checksum"},
				{Name: "checksum's place without one", Data: port("checksumFrom", 1), Field: "checksumFrom"},
				{Name: "request with a value", Data: port("request", "x{value}"), Field: "request"},
				{Name: "request without a station", Data: port("request", "x{station}"), Field: "station"},
				{Name: "station with a line end", Data: port("station", "1\r2"), Field: "station"},
				{Name: "odd hexadecimal", Data: port("request", "hex:123"), Field: "request"},
				{Name: "match", Data: port("match", "("), Field: "match"},
				{Name: "bad before stale", Data: port("staleAfter", 5000, "badAfter", 1000), Field: "badAfter"},
				{Name: "too many init strings", Data: port("init", make([]any, 17)), Field: "init"},
				{Name: "capture", Data: port("capture", 1), Field: "capture"},
				{Name: "misspelt field", Data: port("baudrat", 9600), Field: "baudrat"},
			},
			BadVisitors: []devicetest.Bad{
				{Name: "two parsers", Data: devicetest.Data("pattern", "x", "column", 1), Field: "column"},
				{Name: "pattern", Data: devicetest.Data("pattern", "["), Field: "pattern"},
				{Name: "group", Data: devicetest.Data("pattern", "(a)", "group", "b"), Field: "group"},
				{Name: "group without pattern", Data: devicetest.Data("group", "b"), Field: "group"},
				{Name: "offset without type", Data: devicetest.Data("offset", 1), Field: "type"},
				{Name: "bit beyond", Data: devicetest.Data("offset", 1, "type", "bit", "bit", 9), Field: "size"},
				{Name: "size of an int16", Data: devicetest.Data("offset", 1, "type", "int16", "size", 3), Field: "size"},
				{Name: "order", Data: devicetest.Data("offset", 1, "type", "int16", "order", "middle"), Field: "order"},
				{Name: "words of three bytes", Data: devicetest.Data("offset", 1, "type", "int24", "order", "CDAB"), Field: "order"},
				{Name: "sentence without field", Data: devicetest.Data("sentence", "GGA"), Field: "field"},
				{Name: "field's name", Data: devicetest.Data("sentence", "GGA", "field", "heading"), Field: "field"},
				{Name: "sentence", Data: devicetest.Data("sentence", "$GPGGA", "field", 1), Field: "sentence"},
				{Name: "column", Data: devicetest.Data("column", 0), Field: "column"},
				{Name: "separator", Data: devicetest.Data("column", 1, "separator", ";;"), Field: "separator"},
				{Name: "path", Data: devicetest.Data("path", "a..b"), Field: "path"},
				{Name: "scale", Data: devicetest.Data("scale", 0), Field: "scale"},
				{Name: "no write template", Data: devicetest.Data("pattern", "x"), Field: "write"},
				{Name: "format", Data: devicetest.Data("write", "{value:%n}"), Field: "write"},
				{Name: "endless format", Data: devicetest.Data("write", "{value:%99d}"), Field: "write"},
				{Name: "request with a value", Data: devicetest.Data("request", "{value}", "write", "{value}"), Field: "request"},
				{Name: "misspelt field", Data: devicetest.Data("colum", 1), Field: "colum"},
			},
		}
	})
}
