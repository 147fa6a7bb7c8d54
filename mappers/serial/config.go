package serial

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial/frame"
	"github.com/skerry/skerry/mappers/serialline"
)

const (
	configPath     = "spec.protocol.configData"
	defaultTimeout = time.Second
	defaultFrame   = 1024
	defaultStale   = 10 * time.Second
	frameGap       = 50 * time.Millisecond // ends frames of framing gap
	giveUpGap      = time.Second           // after which the rest of another frame is not waited for
	maxInit        = 16
	maxCapture     = 10 << 10 // KiB
)

// config is a device's protocol configData.
type config struct {
	line    serialline.Config // of a serial port
	address string            // host:port of a serial server instead
	capture int64             // bytes
	format  frame.Format
	gap     time.Duration // the silence that ends a frame

	station    string
	timeout    time.Duration
	retries    int
	requestGap time.Duration
	envelope   bool
	request    *template
	filter     filter

	init      []*template
	initDelay time.Duration
	keepAlive *template
	keepEvery time.Duration
	stale     time.Duration // after which a value without a successor is uncertain …
	bad       time.Duration // … and bad
}

// filter tells the frames that concern a device or a point.
type filter struct {
	prefix *template
	match  *regexp.Regexp
}

// name is the port's, for messages.
func (c *config) name() string {
	if c.address != "" {
		return c.address
	}
	return c.line.Path
}

// key tells which devices share a port.
func (c *config) key() string {
	if c.address != "" {
		return "tcp " + c.address
	}
	return fmt.Sprintf("%+v", c.line)
}

var (
	hostNames    = []string{"ip", "host", "address"}
	framingWords = map[string]frame.Kind{
		"delimiter": frame.Delimited, "delimited": frame.Delimited, "line": frame.Delimited, "fixed": frame.Fixed, "fixedlength": frame.Fixed,
		"length": frame.Counted, "lengthfield": frame.Counted, "gap": frame.Gap, "startstop": frame.StartStop, "slip": frame.SLIP,
	}
	framingAllowed = []string{"delimiter", "fixed", "length", "gap", "startStop", "slip"}
	littleWords    = map[string]bool{"big": false, "little": true}
	littleAllowed  = []string{"big", "little"}
)

// describeDevice is the reference of config.
func describeDevice() []device.FieldDoc {
	own := []device.FieldDoc{
		{Name: "ip", Aliases: hostNames[1:], Meaning: "address of a serial server in raw TCP mode, instead of serialPort", Default: "none", Allowed: "an IP address or a host name"},
		{Name: "port", Meaning: "TCP port of the serial server", Default: "required beside ip", Allowed: "1 to 65535"},
		{Name: "framing", Meaning: "what tells frames apart", Default: "delimiter", Allowed: "delimiter, fixed, length, gap, startStop, slip"},
		{Name: "delimiter", Meaning: "bytes that end a frame", Default: "\\n (a \\r before it is taken off too)", Allowed: "1 to 16 bytes"},
		{Name: "frameLength", Meaning: "length of every frame, in bytes, for framing fixed", Default: "required for fixed", Allowed: "1 to maxFrame"},
		{Name: "lengthOffset", Meaning: "where the length field begins, counted from the frame's first byte, for framing length", Default: "0", Allowed: "0 to maxFrame"},
		{Name: "lengthSize", Meaning: "bytes of the length field", Default: "1", Allowed: "1, 2, 4"},
		{Name: "lengthOrder", Meaning: "byte order of the length field", Default: "big", Allowed: "big, little"},
		{Name: "lengthAdjust", Meaning: "what is added to the field's value to get the number of bytes behind the field, checksum and end included", Default: "0", Allowed: "-65535 to 65535"},
		{Name: "start", Meaning: "bytes that begin a frame; with framing fixed and length they belong to it", Default: "\\x02 for startStop, else none", Allowed: "1 to 16 bytes"},
		{Name: "stop", Meaning: "bytes that end a frame of framing startStop", Default: "\\x03", Allowed: "1 to 16 bytes"},
		{Name: "escape", Meaning: "byte before bytes that would otherwise be start, stop or escape; if stop begins with it (DLE), it is doubled instead", Default: "none", Allowed: "1 byte"},
		{Name: "escapeXor", Meaning: "what an escaped byte is XORed with", Default: "0", Allowed: "0 to 255"},
		{Name: "gap", Meaning: "silence that ends a frame (framing gap), or the wait for its rest, in milliseconds", Default: "50 for gap, else 1000", Allowed: "5 to 60000"},
		{Name: "maxFrame", Meaning: "longest frame in bytes; longer ones are thrown away", Default: "1024", Allowed: "1 to 65535"},
		{Name: "checksum", Meaning: "checksum at the end of every frame; what comes with a wrong one is thrown away", Default: "none", Allowed: "none, xor, sum8, sum16, sum32, lrc, neg-sum16, a name of the CRC catalogue such as CRC-16/MODBUS, or its notation width=16 poly=0x1021 init=0xffff refin=false refout=false xorout=0"},
		{Name: "checksumFrom", Meaning: "first byte that the checksum covers", Default: "0", Allowed: "0 to 65535"},
		{Name: "checksumTrailer", Meaning: "how many bytes follow the checksum within the frame", Default: "0", Allowed: "0 to 16"},
		{Name: "checksumEncoding", Meaning: "whether the checksum is bytes or hexadecimal digits", Default: "binary", Allowed: "binary, hex"},
		{Name: "checksumOrder", Meaning: "byte order of the checksum", Default: "big", Allowed: "big, little"},
		{Name: "envelope", Meaning: "whether requests and written commands get the framing and the checksum too", Default: "false: they are sent as they are", Allowed: "true, false"},
		{Name: "station", Aliases: []string{"slaveID", "unit"}, Meaning: "what {station} stands for in templates", Default: "none", Allowed: "up to 32 printable characters"},
		{Name: "request", Meaning: "what is sent to get the values of properties without a request of their own; without it the device talks by itself", Default: "none", Allowed: "a template"},
		{Name: "prefix", Meaning: "what frames of this device begin with; others are not for it", Default: "any", Allowed: "a template without {value}"},
		{Name: "match", Meaning: "regular expression that frames of this device match", Default: "any", Allowed: "RE2, up to 512 bytes"},
		{Name: "timeout", Meaning: "how long a reply may take, in milliseconds", Default: "1000", Allowed: "20 to 8000"},
		{Name: "retries", Meaning: "how often a request without a reply is sent again", Default: "1", Allowed: "0 to 5"},
		{Name: "requestGap", Meaning: "pause before each request, in milliseconds", Default: "0", Allowed: "0 to 5000"},
		{Name: "init", Meaning: "what is sent after the port was opened", Default: "none", Allowed: "a template, or a list of up to 16"},
		{Name: "initDelay", Meaning: "pause after each of them, in milliseconds", Default: "100", Allowed: "0 to 5000"},
		{Name: "keepAlive", Meaning: "what is sent again and again", Default: "none", Allowed: "a template"},
		{Name: "keepAliveEvery", Meaning: "how often keepAlive is sent, in milliseconds", Default: "10000", Allowed: "100 to 3600000"},
		{Name: "staleAfter", Meaning: "age at which a value that the device sends by itself becomes uncertain, in milliseconds", Default: "10000", Allowed: "100 to 86400000"},
		{Name: "badAfter", Meaning: "age at which it becomes bad", Default: "3 × staleAfter", Allowed: "staleAfter to 604800000"},
		{Name: "capture", Meaning: "KiB of raw bytes that are kept in " + serialline.CaptureDir + " for a technician, the newest ones; 0 for none; one device of a line that asks for it is enough", Default: "0", Allowed: "0, 4 to 10240"},
	}
	return append(serialline.Describe(), own...)
}

// parseConfig judges a device's configuration without I/O.
func parseConfig(cfg device.Config) (*config, error) {
	f := device.NewFields(configPath, cfg.Protocol)
	c := &config{}
	c.parseLine(f)
	c.parseFraming(f)
	c.parseChecksum(f)
	c.station = f.Text("", "station", "slaveID", "unit")
	if _, err := cleanText(c.station); err != nil || len(c.station) > 32 {
		f.Fail("station", c.station, "is not a station's name", "up to 32 printable characters")
	}
	c.timeout = millis(f, defaultTimeout, 20, 8000, "timeout")
	c.retries = int(f.Int(1, 0, 5, "retries"))
	c.requestGap = millis(f, 0, 0, 5000, "requestGap")
	c.envelope = f.Bool(false, "envelope")
	c.request = optionalTemplate(f, "request")
	c.filter = parseFilter(f)
	c.initDelay = millis(f, 100*time.Millisecond, 0, 5000, "initDelay")
	for _, s := range f.Verbatims(maxInit, "init") {
		if t := templateOf(f, "init", s); t != nil {
			c.init = append(c.init, t)
		}
	}
	c.keepAlive = optionalTemplate(f, "keepAlive")
	c.keepEvery = millis(f, 10*time.Second, 100, 3_600_000, "keepAliveEvery")
	c.stale = millis(f, defaultStale, 100, 86_400_000, "staleAfter")
	c.bad = millis(f, 3*c.stale, c.stale.Milliseconds(), 604_800_000, "badAfter")
	if c.capture = f.Int(0, 0, maxCapture, "capture") << 10; c.capture > 0 && c.capture < 4<<10 {
		f.Fail("capture", c.capture>>10, "is too small to say anything", "0, 4 to 10240")
	}
	c.tryExpand(f, "request", c.request)
	c.tryExpand(f, "prefix", c.filter.prefix)
	c.tryExpand(f, "keepAlive", c.keepAlive)
	for _, t := range c.init {
		c.tryExpand(f, "init", t)
	}
	if err := f.Err(describeDevice()); err != nil {
		return nil, err
	}
	return c, nil
}

// tryExpand finds out now what would fail with the first request.
func (c *config) tryExpand(f *device.Fields, name string, t *template) {
	if t == nil {
		return
	}
	switch {
	case t.uses("value"):
		f.Fail(name, t.source, "has a place for a value, and there is none", "{value} only in a property's write")
	case t.uses("station") && c.station == "":
		f.Fail("station", nil, "is missing, and "+name+" has a place for it", "up to 32 printable characters")
	default:
		b, err := t.expand(c.station, device.Value{})
		if err == nil && c.envelope && (name == "request") {
			_, err = c.format.Encode(b)
		}
		if err != nil {
			f.Fail(name, t.source, err.Error(), "")
		}
	}
}

func (c *config) parseLine(f *device.Fields) {
	host := f.Text("", hostNames...)
	if host == "" {
		c.line = serialline.FromFields(f)
		if f.Has("port") {
			f.Fail("port", f.Text("", "port"), "is given without ip", "serialPort for a serial port, ip and port for a serial server")
		}
		return
	}
	if serialline.Given(f) {
		f.Fail("ip", host, "is given beside serialPort", "one of the two")
	}
	serialline.Ignore(f)
	port := strconv.FormatInt(f.Int(0, 1, 65535, "port"), 10)
	if h, p, err := net.SplitHostPort(host); err == nil && !f.Has("port") {
		host, port = h, p
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		f.Require("1 to 65535", "port")
	}
	if net.ParseIP(host) == nil && (len(host) > 253 || strings.Trim(host, ".") == "" || strings.ContainsFunc(host, notHost)) {
		f.Fail("ip", host, "is neither an IP address nor a host name", "an IP address or a host name, without port and scheme")
	}
	c.address = net.JoinHostPort(host, port)
}

func notHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
}

func (c *config) parseFraming(f *device.Fields) {
	m := &c.format
	m.Kind = device.Choice(f, frame.Delimited, framingWords, framingAllowed, "framing")
	m.Max = int(f.Int(defaultFrame, 1, frame.MaxFrame, "maxFrame"))
	given := map[string]bool{}
	sequence := func(name, def string, kinds ...frame.Kind) []byte {
		given[name] = f.Has(name)
		s := f.Verbatim(def, name)
		if !slices.Contains(kinds, m.Kind) {
			if given[name] {
				f.Fail(name, s, "means nothing with this framing", "leave it out, or another framing")
			}
			return nil
		}
		b, err := unescape(s)
		if err != nil || len(b) > frame.MaxSequence {
			f.Fail(name, s, "is not a sequence of bytes", "1 to 16 bytes; \\r, \\n, \\xNN, or hex: with digits")
			return []byte{'\n'}
		}
		return b
	}
	m.Delimiter = sequence("delimiter", "\n", frame.Delimited)
	startDef := ""
	if m.Kind == frame.StartStop {
		startDef = "\x02"
	}
	m.Start = sequence("start", startDef, frame.StartStop, frame.Fixed, frame.Counted)
	m.Stop = sequence("stop", "\x03", frame.StartStop)
	if e := sequence("escape", "", frame.StartStop); len(e) == 1 {
		m.Escaped, m.Escape = true, e[0]
	} else if given["escape"] && len(e) > 1 {
		f.Fail("escape", f.Text("", "escape"), "is more than one byte", "1 byte")
	}
	m.EscapeXor = byte(f.Int(0, 0, 255, "escapeXor"))
	if m.Kind == frame.Fixed {
		f.Require("1 to maxFrame", "frameLength")
	}
	m.Length = int(f.Int(1, 1, frame.MaxFrame, "frameLength"))
	m.Offset = int(f.Int(0, 0, frame.MaxFrame, "lengthOffset"))
	m.Size = int(f.Int(1, 1, 4, "lengthSize"))
	m.Little = device.Choice(f, false, littleWords, littleAllowed, "lengthOrder")
	m.Adjust = int(f.Int(0, -frame.MaxFrame, frame.MaxFrame, "lengthAdjust"))
	gap := giveUpGap
	if m.Kind == frame.Gap {
		gap = frameGap
	}
	c.gap = millis(f, gap, 5, 60_000, "gap")
	if err := m.Check(); err != nil {
		f.Fail("framing", f.Text("delimiter", "framing"), "cannot work: "+err.Error(), "")
	}
}

func (c *config) parseChecksum(f *device.Fields) {
	s := &c.format.Checksum
	if name := f.Text("none", "checksum"); !strings.EqualFold(name, "none") {
		a, err := frame.Find(name)
		if err != nil {
			f.Fail("checksum", name, "is not known: "+err.Error(), "none, xor, sum8, sum16, sum32, lrc, neg-sum16, CRC-16/MODBUS and other names of the CRC catalogue, or width=… poly=… init=…")
		}
		s.Algorithm = a
	} else {
		for _, n := range []string{"checksumFrom", "checksumTrailer", "checksumEncoding", "checksumOrder"} {
			if f.Has(n) {
				f.Fail(n, f.Text("", n), "is given without checksum", "leave it out, or name the checksum")
			}
		}
	}
	s.From = int(f.Int(0, 0, frame.MaxFrame, "checksumFrom"))
	s.Trailer = int(f.Int(0, 0, 16, "checksumTrailer"))
	s.Hex = device.Choice(f, false, map[string]bool{"binary": false, "hex": true}, []string{"binary", "hex"}, "checksumEncoding")
	s.Little = device.Choice(f, false, littleWords, littleAllowed, "checksumOrder")
}

// optionalTemplate reads a template; nil if there is none.
func optionalTemplate(f *device.Fields, name string) *template {
	s := f.Verbatim("", name)
	if s == "" {
		return nil
	}
	return templateOf(f, name, s)
}

func templateOf(f *device.Fields, name, s string) *template {
	t, err := parseTemplate(s)
	if err != nil {
		f.Fail(name, s, err.Error(), `text with \r, \n, \xNN, {station} and {value:%05.1f}, or hex: with digits and {value:u16be}`)
		return nil
	}
	return t
}

// parseFilter reads what frames are for a device or a point.
func parseFilter(f *device.Fields) filter {
	out := filter{prefix: optionalTemplate(f, "prefix")}
	if out.prefix != nil && out.prefix.uses("value") {
		f.Fail("prefix", out.prefix.source, "has a place for a value, and there is none", "a template without {value}")
	}
	out.match = optionalPattern(f, "match")
	return out
}

func optionalPattern(f *device.Fields, name string) *regexp.Regexp {
	s := f.Verbatim("", name)
	if s == "" {
		return nil
	}
	re, err := compilePattern(s)
	if err != nil {
		f.Fail(name, s, err.Error(), "a regular expression (RE2) of up to 512 bytes")
	}
	return re
}

func millis(f *device.Fields, def time.Duration, low, high int64, name string) time.Duration {
	return time.Duration(f.Int(def.Milliseconds(), low, high, name)) * time.Millisecond
}
