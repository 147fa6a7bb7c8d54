package modbus

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

const (
	configPath     = "spec.protocol.configData"
	defaultPort    = 502
	defaultTimeout = time.Second
	maxGap         = 100
	maxPipeline    = 16
)

// config is a device's protocol configData. It is immutable.
type config struct {
	framing  framing
	endpoint string       // host:port; empty for a serial line and for a gateway that dials in
	backup   string       // host:port
	listen   string       // host:port that a gateway dials
	from     netip.Prefix // who may dial
	serial   *serialline.Config

	unit           byte
	broadcast      bool          // to all units; nobody answers
	timeout        time.Duration // of one request, and of connecting
	retries        int           // of a read that was lost
	requestGap     time.Duration // between two requests
	silence        time.Duration // on a serial line before each request
	charTime       time.Duration // of one character on a serial line
	connectPause   time.Duration
	idleClose      time.Duration
	busyRetries    int
	busyPause      time.Duration
	broadcastPause time.Duration
	pipeline       int
	holeRetry      time.Duration
	mixed          bool     // write and read back with FC 23
	noMask         bool     // do not try FC 22
	grouping       grouping // neighbours in one request
	capture        int64    // bytes of raw capture
	limits         limits
}

// Spellings of the fields; the first of each is ours.
var (
	hostNames = []string{"ip", "host", "address"}
	unitNames = []string{"slaveID", "unitID", "unit"}
	modeNames = []string{"serialType", "communicateMode", "mode"}
)

// mode is what serialType says.
type mode struct {
	framing framing
	serial  bool
}

var (
	modeWords = map[string]mode{
		"tcp": {framing: framingTCP}, "rtuovertcp": {framing: framingRTU}, "asciiovertcp": {framing: framingASCII},
		"rtu": {framingRTU, true}, "rs485": {framingRTU, true}, "rs232": {framingRTU, true}, "serial": {framingRTU, true}, "ascii": {framingASCII, true},
	}
	modeAllowed = []string{"TCP", "RTU (RS485, RS232)", "ASCII", "RTUoverTCP", "ASCIIoverTCP"}
)

// describeDevice is the reference of config.
func describeDevice() []device.FieldDoc {
	out := serialline.Describe()
	out[0].Default = "required for a serial line"
	return append([]device.FieldDoc{
		{Name: "ip", Aliases: hostNames[1:], Meaning: "address or host name of the device or gateway", Default: "required, unless serialPort or listen is given", Allowed: "an IP address or a host name"},
		{Name: "port", Meaning: "TCP port", Default: "502", Allowed: "1 to 65535"},
		{Name: "backup", Meaning: "a second address of the same device, for when the first does not answer", Default: "none", Allowed: "host or host:port"},
		{Name: "listen", Meaning: "instead of ip: the address at which the agent waits for a gateway that dials in", Default: "none", Allowed: "host:port or :port"},
		{Name: "listenFrom", Meaning: "who may dial in", Default: "anyone", Allowed: "an IP address or a prefix, e.g. 10.1.0.0/16"},
		{Name: "serialType", Aliases: modeNames[1:], Meaning: "transport", Default: "TCP; RTU if serialPort is given", Allowed: strings.Join(modeAllowed, ", ")},
		{Name: "slaveID", Aliases: unitNames[1:], Meaning: "unit id behind the endpoint; 0 on a serial line is a broadcast", Default: "1", Allowed: "0 to 255; 0 to 247 on a serial line"},
		{Name: "broadcast", Meaning: "writes go to all units, without a reply; nothing can be read", Default: "false; true for slaveID 0 on a serial line", Allowed: "true, false; only with slaveID 0"},
		{Name: "timeout", Meaning: "how long one request may take, in milliseconds", Default: "1000", Allowed: "50 to 8000"},
		{Name: "retries", Meaning: "how often a read that was lost is repeated before the device counts as dead", Default: "0; 1 on a serial line", Allowed: "0 to 5"},
		{Name: "requestGap", Meaning: "pause between two requests, in milliseconds", Default: "0; on a serial line the standard's 3.5 characters at least", Allowed: "0 to 1000"},
		{Name: "connectPause", Meaning: "pause between connecting and the first request, in milliseconds", Default: "0", Allowed: "0 to 10000"},
		{Name: "idleClose", Meaning: "a connection that is not used for so long is closed, in seconds; 0: never", Default: "0", Allowed: "0 to 3600"},
		{Name: "busyRetries", Meaning: "how often a device that says that it is busy (exceptions 5 and 6) is asked again", Default: "3", Allowed: "0 to 20"},
		{Name: "busyPause", Meaning: "pause before a busy device is asked again, in milliseconds", Default: "100", Allowed: "1 to 5000"},
		{Name: "broadcastPause", Meaning: "pause after a broadcast, in milliseconds", Default: "100", Allowed: "0 to 5000"},
		{Name: "pipeline", Meaning: "how many requests may be under way at a time, for devices that allow it; with RTU and ASCII it is always 1", Default: "1", Allowed: "1 to 16"},
		{Name: "maxGap", Meaning: "how many unwanted registers or bits a read may cover to save a request", Default: "0", Allowed: "0 to 100"},
		{Name: "maxRegisters", Meaning: "most registers in one read, for devices that serve fewer than the standard", Default: "125", Allowed: "1 to 125"},
		{Name: "maxBits", Meaning: "most coils or discrete inputs in one read", Default: "2000", Allowed: "1 to 2000"},
		{Name: "onePerRequest", Meaning: "each property is read in a request of its own", Default: "false", Allowed: "true, false"},
		{Name: "holeRetry", Meaning: "how long an address that the device does not have is left out before it is tried again, in seconds", Default: "60", Allowed: "1 to 86400"},
		{Name: "readWrite", Meaning: "values of registers are written and read back in one request (FC 23)", Default: "false", Allowed: "true, false"},
		{Name: "groupWrites", Meaning: "whether values that are written at the same time, and lie one after the other, go out in one request (FC 15 and 16)", Default: "true for values that are written with FC 16 anyway, until the device does not take several at a time; false with onePerRequest or readWrite", Allowed: "true, false"},
		{Name: "capture", Meaning: "KiB of raw bytes of the line that are kept in " + serialline.CaptureDir + " for a technician, the newest ones; one device of a line that asks for it is enough", Default: "0", Allowed: "0, 4 to 10240"},
		{Name: "maskWrite", Meaning: "whether bits of a register are written with FC 22; false for devices that do not answer it at all", Default: "true: FC 22, and reading and writing if the device refuses it", Allowed: "true, false"},
	}, out...)
}

// parseConfig judges a device's configuration without I/O.
func parseConfig(cfg device.Config) (config, error) {
	f := device.NewFields(configPath, cfg.Protocol)
	var c config
	m := device.Choice(f, mode{}, modeWords, modeAllowed, modeNames...)
	retries := int64(0)
	if m.serial || !f.Has(modeNames...) && serialline.Given(f) && !f.Has(hostNames...) {
		c.parseSerial(f, m)
		retries = 1
	} else {
		c.framing = m.framing
		c.parseNet(f)
	}
	c.unit = byte(f.Int(1, 0, int64(c.lastUnit()), unitNames...))
	if c.broadcast = f.Bool(c.serial != nil && c.unit == 0, "broadcast"); c.broadcast && c.unit != 0 {
		f.Fail("slaveID", c.unit, "contradicts broadcast, which goes to all units", "0, or broadcast: false")
	}
	c.timeout = millis(f, defaultTimeout.Milliseconds(), 50, 8000, "timeout")
	c.retries = int(f.Int(retries, 0, 5, "retries"))
	c.requestGap = millis(f, 0, 0, 1000, "requestGap")
	c.connectPause = millis(f, 0, 0, 10000, "connectPause")
	c.idleClose = time.Duration(f.Int(0, 0, 3600, "idleClose")) * time.Second
	c.busyRetries = int(f.Int(3, 0, 20, "busyRetries"))
	c.busyPause = millis(f, 100, 1, 5000, "busyPause")
	c.broadcastPause = millis(f, 100, 0, 5000, "broadcastPause")
	c.pipeline = int(f.Int(1, 1, maxPipeline, "pipeline"))
	if c.pipeline > 1 && c.framing != framingTCP {
		f.Fail("pipeline", c.pipeline, c.framing.String()+" frames have no transaction id to tell replies apart", "1, or serialType TCP")
	}
	if c.capture = f.Int(0, 0, 10<<10, "capture") << 10; c.capture > 0 && c.capture < 4<<10 {
		f.Fail("capture", c.capture>>10, "is too small to say anything", "0, 4 to 10240")
	}
	c.holeRetry = time.Duration(f.Int(60, 1, 86400, "holeRetry")) * time.Second
	c.mixed = f.Bool(false, "readWrite")
	if f.Has("groupWrites") {
		if c.grouping = groupNone; f.Bool(false, "groupWrites") {
			c.grouping = groupAll
		}
	}
	c.noMask = !f.Bool(true, "maskWrite")
	c.limits = limits{
		registers: int(f.Int(maxReadRegisters, 1, maxReadRegisters, "maxRegisters")),
		bits:      int(f.Int(maxReadBits, 1, maxReadBits, "maxBits")),
		gap:       int(f.Int(0, 0, maxGap, "maxGap")),
		single:    f.Bool(false, "onePerRequest"),
	}
	return c, f.Err(describeDevice())
}

func millis(f *device.Fields, def, low, high int64, name string) time.Duration {
	return time.Duration(f.Int(def, low, high, name)) * time.Millisecond
}

// parseSerial reads a line's settings. The framing is RTU unless ASCII is asked for.
func (c *config) parseSerial(f *device.Fields, m mode) {
	line := serialline.FromFields(f)
	c.serial, c.framing = &line, max(m.framing, framingRTU)
	c.silence, c.charTime = line.FrameGap(), line.CharTime(1)
	for _, n := range []string{"ip", "port", "backup", "listen", "listenFrom"} {
		if names := map[string][]string{"ip": hostNames}[n]; f.Has(append(names, n)...) {
			f.Fail(n, f.Text("", append(names, n)...), "is for TCP, and serialType and serialPort ask for a serial line", "leave it out, or serialType TCP, RTUoverTCP, ASCIIoverTCP")
		}
	}
}

// lastUnit is the greatest unit id: a serial line has only 247 (Serial Line V1.02, section 2.2).
func (c *config) lastUnit() byte {
	if c.serial != nil {
		return 247
	}
	return 255
}

// parseNet reads where the device is. Line settings beside an address are leftovers of a template and mean nothing.
func (c *config) parseNet(f *device.Fields) {
	if serialline.Given(f) {
		f.Fail("serialPort", f.Text("", "serialPort", "devicePath", "tty"), "is for a serial line, and serialType or ip ask for TCP", "leave it out, or serialType RTU without ip")
	}
	serialline.Ignore(f)
	port := f.Int(defaultPort, 1, 65535, "port")
	if f.Has("listen") {
		c.parseListen(f)
		return
	}
	f.Require("an IP address or a host name, or serialPort instead", hostNames...)
	host := f.Text("", hostNames...)
	if host == "" {
		return
	}
	if f.Has("port") && strings.Count(host, ":") == 1 {
		f.Fail("ip", host, "is neither an IP address nor a host name", "an IP address or a host name, without port and scheme")
		return
	}
	c.endpoint = hostPort(f, "ip", host, port)
	if b := f.Text("", "backup"); b != "" {
		c.backup = hostPort(f, "backup", b, port)
	}
}

// hostPort completes an address.
func hostPort(f *device.Fields, field, host string, port int64) string {
	if h, p, err := net.SplitHostPort(host); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			f.Fail(field, host, "has a wrong port", "1 to 65535")
		}
		host, port = h, int64(n)
	}
	if !validHost(host) {
		f.Fail(field, host, "is neither an IP address nor a host name", "an IP address or a host name, without port and scheme")
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// parseListen reads at which address a gateway dials in.
func (c *config) parseListen(f *device.Fields) {
	c.listen = f.Text("", "listen")
	host, port, err := net.SplitHostPort(c.listen)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host != "" && net.ParseIP(host) == nil {
		f.Fail("listen", c.listen, "is not an address to listen at", "host:port or :port, where host is an IP address of the gateway")
	}
	for _, n := range []string{"ip", "backup"} {
		if v := f.Text("", n); v != "" {
			f.Fail(n, v, "contradicts listen: either the agent dials or the device does", "one of the two")
		}
	}
	from := f.Text("", "listenFrom")
	if from == "" {
		return
	}
	if a, err := netip.ParseAddr(from); err == nil {
		c.from = netip.PrefixFrom(a, a.BitLen())
	} else if c.from, err = netip.ParsePrefix(from); err != nil {
		f.Fail("listenFrom", from, "is neither an IP address nor a prefix", "an IP address, or a prefix as 10.1.0.0/16")
	}
}

// key says which devices share an endpoint.
func (c *config) key() string {
	if c.serial != nil {
		return "serial " + c.serial.Path
	}
	return fmt.Sprintf("%s %s %s %s %s", c.framing, c.endpoint, c.backup, c.listen, c.from)
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
