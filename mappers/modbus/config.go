package modbus

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

const (
	configPath     = "spec.protocol.configData"
	defaultPort    = 502
	defaultTimeout = time.Second
	maxGap         = 100
)

// config is a device's protocol configData.
type config struct {
	endpoint string // host:port
	unit     byte
	timeout  time.Duration // of one request, and of connecting
	limits   limits
}

// Spellings of the fields; the first of each is ours.
var (
	hostNames    = []string{"ip", "host", "address"}
	unitNames    = []string{"slaveID", "unitID", "unit"}
	gapNames     = []string{"maxGap"}
	modeNames    = []string{"serialType", "communicateMode", "mode"}
	lineSettings = []string{"baudRate", "dataBits", "parity", "stopBits"}
)

// describeDevice is the reference of config.
func describeDevice() []device.FieldDoc {
	return []device.FieldDoc{
		{Name: "ip", Aliases: hostNames[1:], Meaning: "address or host name of the device or gateway", Default: "required", Allowed: "an IP address or a host name"},
		{Name: "port", Meaning: "TCP port", Default: "502", Allowed: "1 to 65535"},
		{Name: "slaveID", Aliases: unitNames[1:], Meaning: "unit id behind the endpoint", Default: "1", Allowed: "0 to 255"},
		{Name: "timeout", Meaning: "how long one request may take, in milliseconds", Default: "1000", Allowed: "50 to 8000"},
		{Name: "maxGap", Meaning: "how many unwanted registers or bits a read may cover to save a request", Default: "0", Allowed: "0 to 100"},
		{Name: "maxRegisters", Meaning: "most registers in one read, for devices that serve fewer than the standard", Default: "125", Allowed: "1 to 125"},
		{Name: "serialType", Aliases: modeNames[1:], Meaning: "transport; only TCP is supported yet", Default: "TCP", Allowed: "TCP"},
	}
}

// parseConfig judges a device's configuration without I/O.
func parseConfig(cfg device.Config) (config, error) {
	f := device.NewFields(configPath, cfg.Protocol)
	var c config
	refuseSerial(f)
	host := f.Text("", hostNames...)
	port := f.Int(defaultPort, 1, 65535, "port")
	if h, p, err := net.SplitHostPort(host); err == nil && !f.Has("port") {
		host = h
		if n, err := strconv.ParseUint(p, 10, 16); err == nil && n > 0 {
			port = int64(n)
		} else {
			f.Fail("ip", host+":"+p, "has a wrong port", "1 to 65535")
		}
	}
	switch {
	case host == "":
		f.Require("an IP address or a host name", hostNames...)
	case !validHost(host):
		f.Fail("ip", host, "is neither an IP address nor a host name", "an IP address or a host name, without port and scheme")
	}
	c.endpoint = net.JoinHostPort(host, strconv.FormatInt(port, 10))
	c.unit = byte(f.Int(1, 0, 255, unitNames...))
	c.timeout = time.Duration(f.Int(defaultTimeout.Milliseconds(), 50, 8000, "timeout")) * time.Millisecond
	c.limits = limits{
		registers: int(f.Int(maxReadRegisters, 1, maxReadRegisters, "maxRegisters")),
		bits:      maxReadBits,
		gap:       int(f.Int(0, 0, maxGap, gapNames...)),
	}
	return c, f.Err(describeDevice())
}

// refuseSerial refuses what asks for a serial line. Line settings beside an ip are leftovers of a template and mean nothing.
func refuseSerial(f *device.Fields) {
	const problem = "serial lines are not supported yet: tcp only"
	mode := strings.ToLower(f.Text("tcp", modeNames...))
	if mode != "tcp" {
		f.Fail("serialType", mode, problem, "TCP, or leave it out and give ip and port")
	}
	hasHost := f.Has(hostNames...)
	if port := f.Text("", "serialPort"); port != "" {
		f.Fail("serialPort", port, problem, "ip and port instead")
	}
	for _, name := range lineSettings {
		if v := f.Text("", name); v != "" && !hasHost {
			f.Fail(name, v, problem, "ip and port instead")
		}
	}
}

func validHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	if len(host) > 253 || strings.Trim(host, ".") == "" {
		return false
	}
	return strings.IndexFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}) < 0
}
