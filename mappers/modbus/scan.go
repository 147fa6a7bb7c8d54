package modbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serialline"
)

// What a scan tries if nobody says otherwise: the usual settings, the commonest first, and the unit ids of a serial line.
var (
	scanBauds    = []int{9600, 19200, 38400, 57600, 115200, 4800, 2400}
	scanParities = []string{"none", "even", "odd"}
)

const (
	scanTimeout = 300 * time.Millisecond // that a unit has, unless the request gives a timeout
	scanFirst   = 10                     // unit ids that are tried with all settings before the others
	maxSettings = 64
)

// setting is one way to talk on a line.
type setting struct {
	text     string
	protocol map[string]any
	config   config
}

// Scan implements device.Scanner: every unit id is asked for holding register 0, with each of the settings. Whatever it answers, an exception
// included, tells that it is there. The first ids are tried with all settings before the many others, because most lines have a device there, and
// settings that found one are gone through at once. A line that a device uses is left alone: at other settings the requests would
// be noise to it, and the units that are not there would cost its time.
func (d *Driver) Scan(ctx context.Context, req device.ScanRequest, progress func(done, total int, what string), found func(device.ScanResult)) error {
	settings, err := scanSettings(req)
	if err != nil {
		return err
	}
	units := settings[0].config.scanUnits(req.Units)
	if err := d.reserve(&settings[0].config); err != nil {
		return err
	}
	defer d.unreserve(&settings[0].config)
	s := &scan{driver: d, progress: progress, found: found, total: len(settings) * len(units)}
	first, rest := units, []byte(nil)
	if len(settings) > 1 && len(units) > scanFirst {
		first, rest = units[:scanFirst], units[scanFirst:]
	}
	var later []*setting
	for i := range settings {
		hit, err := s.ask(ctx, &settings[i], first)
		if err == nil && hit {
			_, err = s.ask(ctx, &settings[i], rest)
		} else {
			later = append(later, &settings[i])
		}
		if err != nil {
			return err
		}
	}
	for _, x := range later {
		if _, err := s.ask(ctx, x, rest); err != nil {
			return err
		}
	}
	if progress != nil && ctx.Err() == nil {
		progress(s.total, s.total, "all has been asked")
	}
	return nil
}

// scan is one scan under way. It is used by one goroutine.
type scan struct {
	driver      *Driver
	progress    func(done, total int, what string)
	found       func(device.ScanResult)
	done, total int
}

// ask asks units with one setting, and tells whether any was there.
func (s *scan) ask(ctx context.Context, with *setting, units []byte) (hit bool, err error) {
	p := &prober{opener: s.driver.scanOpener(&with.config), config: &with.config}
	defer p.close()
	for _, unit := range units {
		if ctx.Err() != nil {
			break
		}
		if s.progress != nil {
			s.progress(s.done, s.total, fmt.Sprintf("%s, unit %d", with.text, unit))
		}
		there, err := p.ask(ctx, unit, readRequest(holdingRegisters, 0, 1))
		if err != nil && ctx.Err() == nil {
			return hit, fmt.Errorf("scan %s: %w", with.text, err)
		}
		if there != nil {
			hit = true
			s.tell(ctx, p, with, unit)
		}
		s.done++
	}
	return hit, nil
}

// tell tells of a unit that is there, and of what it says of itself.
func (s *scan) tell(ctx context.Context, p *prober, with *setting, unit byte) {
	if s.found == nil {
		return
	}
	result := device.ScanResult{Protocol: maps.Clone(with.protocol), Name: p.identity(ctx, unit)}
	maps.DeleteFunc(result.Protocol, func(k string, _ any) bool { return strings.EqualFold(k, "timeout") }) // it was the scan's
	result.Protocol["slaveID"] = int64(unit)
	s.found(result)
}

// scanSettings lists what is to be tried.
func scanSettings(req device.ScanRequest) ([]setting, error) {
	base := make(map[string]any, len(req.Protocol)+3)
	given := map[string]bool{}
	for k, v := range req.Protocol {
		name := strings.ToLower(k)
		given[name] = true
		if !slices.ContainsFunc(unitNames, func(u string) bool { return strings.EqualFold(u, k) }) {
			base[k] = v
		}
	}
	probe := func(protocol map[string]any) (config, error) {
		c, err := parseConfig(device.Config{Protocol: protocol})
		if !given["timeout"] {
			c.timeout = scanTimeout
		}
		return c, err
	}
	c, err := probe(base)
	switch {
	case err != nil:
		return nil, err
	case c.listen != "":
		return nil, &device.FieldError{Field: configPath + ".listen", Value: c.listen, Problem: "a gateway that dials in cannot be scanned", Allowed: "ip or serialPort"}
	case c.serial == nil:
		return []setting{{text: c.endpoint, protocol: base, config: c}}, nil
	}
	bauds, parities := req.Bauds, req.Parities
	if len(bauds) == 0 && !given["baudrate"] && !given["baud"] {
		bauds = scanBauds
	}
	if len(parities) == 0 && !given["parity"] {
		parities = scanParities
	}
	if len(bauds) == 0 {
		bauds = []int{c.serial.Baud}
	}
	if len(parities) == 0 {
		parities = []string{c.serial.Parity.String()}
	}
	if len(bauds)*len(parities) > maxSettings {
		return nil, &device.FieldError{Field: "bauds", Value: len(bauds) * len(parities), Problem: "are too many combinations of baud rate and parity", Allowed: fmt.Sprintf("up to %d", maxSettings)}
	}
	delete(base, "baud")
	var out []setting
	for _, b := range bauds {
		for _, p := range parities {
			protocol := maps.Clone(base)
			protocol["baudRate"], protocol["parity"] = int64(b), p
			c, err := probe(protocol)
			if err != nil {
				return nil, err
			}
			out = append(out, setting{text: strings.Trim(strings.TrimPrefix(c.serial.String(), c.serial.Path), " ()"), protocol: protocol, config: c})
		}
	}
	return out, nil
}

// scanUnits are the unit ids to ask. Over TCP 0 and 255 mean the device at the address itself (Messaging on TCP/IP V1.0b, section 4.4.2).
func (c *config) scanUnits(given [2]int) (out []byte) {
	first, last := given[0], given[1]
	if given == ([2]int{}) {
		first, last = 1, 247
	}
	first, last = max(first, 0), min(last, 255)
	if c.serial != nil {
		first, last = max(first, 1), min(last, 247)
	}
	for u := first; u <= last; u++ {
		out = append(out, byte(u))
	}
	if c.serial == nil && given == ([2]int{}) {
		out = append(out, 255, 0)
	}
	return out
}

// reserve takes a line for a scan, if no device uses it.
func (d *Driver) reserve(c *config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	place := c.place()
	if d.scans[place] {
		return fmt.Errorf("%s is being scanned already", place)
	}
	var users []string
	for _, e := range d.endpoints {
		if e.at(place) {
			users = append(users, e.users...)
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		return fmt.Errorf("%s is used by %s: a scan would disturb what is polled there, so it was not begun. Delete these devices, or give them another "+
			"spec.nodeName, for as long as the scan takes: %w", place, strings.Join(slices.Compact(users), ", "), errInUse)
	}
	d.scans[place] = true
	return nil
}

var errInUse = errors.New("the line is in use")

func (d *Driver) unreserve(c *config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.scans, c.place())
}

// place is what a configuration's requests go over, by one name: links of udev lead to the same port.
func (c *config) place() string {
	if c.serial == nil {
		return c.line()
	}
	return portOf(c.serial.Path)
}

func portOf(path string) string {
	if port, err := filepath.EvalSymlinks(path); err == nil {
		return port
	}
	return path
}

// at tells that the endpoint is a place.
func (e *endpoint) at(place string) bool {
	switch o := e.opener.(type) {
	case *serialOpener:
		return portOf(o.cfg.Path) == place
	case *tcpOpener:
		return slices.Contains(o.addrs, place)
	}
	return false
}

// unlessScanned opens a port for a device.
func (d *Driver) unlessScanned(cfg serialline.Config) (line, error) {
	place := portOf(cfg.Path)
	d.mu.Lock()
	scanned := d.scans[place]
	d.mu.Unlock()
	if scanned {
		return nil, fmt.Errorf("%s is being scanned (skerryctl device scan); it is polled when that has ended", place)
	}
	return d.port(cfg)
}

// scanOpener opens the line of a scan, which has it for itself.
func (d *Driver) scanOpener(c *config) opener {
	if c.serial != nil {
		return &serialOpener{cfg: *c.serial, port: d.port}
	}
	return d.opener(c)
}

// prober asks units one after the other on a line of its own. It is used by one goroutine.
type prober struct {
	opener opener
	config *config
	line   line
	last   time.Time // when bytes last went over the line
	id     uint16
	fails  int // connections in a row that were lost
	buf    [bufSize]byte
}

func (p *prober) close() {
	if p.line != nil {
		_ = p.line.Close() // nothing is kept on it
		p.line = nil
	}
	p.opener.close()
}

// answer is what a unit said.
type answer struct{ data []byte }

// maxLost is how many connections in a row may be lost before the endpoint counts as gone: some gateways close the connection when they are
// asked for a unit that they do not have.
const maxLost = 5

// ask sends a request to a unit. A nil answer means that there is none. An error means that the line cannot be used.
func (p *prober) ask(ctx context.Context, unit byte, r *request) (*answer, error) {
	if p.line == nil {
		open, cancel := context.WithTimeout(ctx, defaultTimeout+p.config.timeout)
		l, err := p.opener.open(open)
		cancel()
		if err != nil {
			return nil, err
		}
		p.line = l
		p.pause(ctx, p.config.connectPause)
	}
	unhook := context.AfterFunc(ctx, func() { _ = p.line.SetDeadline(time.Unix(1, 0)) })
	defer unhook()
	pdu, err := p.exchange(unit, r)
	switch {
	case err == nil:
		p.fails = 0
	case errors.Is(err, os.ErrDeadlineExceeded) || isBadFrame(err):
		if p.config.serial == nil { // a late answer must not be taken for another's
			p.drop()
		}
		return nil, nil
	default:
		p.drop()
		if p.fails++; p.fails >= maxLost || p.config.serial != nil {
			return nil, err
		}
		return nil, nil
	}
	data, err := r.check(pdu)
	var ex *exception
	if isBadFrame(err) || errors.As(err, &ex) && ex.unreachable() {
		return nil, nil
	}
	return &answer{data}, nil
}

func (p *prober) drop() {
	if p.line != nil {
		_ = p.line.Close() // it is of no use any more
		p.line = nil
	}
}

func (p *prober) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// exchange sends a frame and waits for the reply's PDU.
func (p *prober) exchange(unit byte, r *request) ([]byte, error) {
	if err := p.quiet(); err != nil {
		return nil, err
	}
	adu, err := p.config.framing.encode(unit, &r.pdu)
	if err != nil {
		return nil, err
	}
	if p.config.framing == framingTCP {
		p.id++
		adu[0], adu[1] = byte(p.id>>8), byte(p.id)
	}
	wait := p.config.timeout + p.config.charTime*time.Duration(len(adu)+r.expected(p.config.framing))
	if err := p.line.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	if _, err := p.line.Write(adu); err != nil {
		return nil, err
	}
	for have := 0; ; {
		n, err := p.line.Read(p.buf[have:])
		if n > 0 {
			have += n
			p.last = time.Now()
		}
		if pdu, whole, ferr := p.reply(p.buf[:have], unit, r.pdu.FunctionCode); ferr != nil || whole {
			return pdu, ferr
		}
		if err != nil {
			return nil, err
		}
		if have == len(p.buf) {
			return nil, badFrame("%d bytes, and no reply among them", have)
		}
	}
}

// reply finds the reply among what has come.
func (p *prober) reply(buf []byte, unit, function byte) (pdu []byte, whole bool, err error) {
	size := 0
	switch p.config.framing {
	case framingRTU:
		pdu, size, err = scanRTU(buf, unit, function)
	case framingASCII:
		pdu, size, err = scanASCII(buf, unit)
	case framingTCP:
		m, ferr := scanTCP(buf)
		if ferr == nil && m.size > 0 && (m.transaction != p.id || m.unit != unit) {
			ferr = badFrame("it answers another request")
		}
		pdu, size, err = m.pdu, m.size, ferr
	}
	return pdu, size > 0, err
}

// quiet waits until a serial line has been silent for long enough, and throws away what is on it.
func (p *prober) quiet() error {
	gap := max(p.config.requestGap, p.config.silence)
	for limit := time.Now().Add(maxNoise); time.Now().Before(limit); {
		if d := time.Until(p.last.Add(gap)); d > 0 {
			time.Sleep(d)
		}
		n, err := p.line.Discard()
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		p.last = time.Now()
	}
	return badFrame("the line is never silent") // at these settings; others may be right
}

// identity is what a unit says of itself; empty if it does not.
func (p *prober) identity(ctx context.Context, unit byte) string {
	got, err := p.ask(ctx, unit, identify(1, 0))
	if err != nil || got == nil || got.data == nil {
		return ""
	}
	id, err := parseIdentity(got.data)
	if err != nil {
		return ""
	}
	var words []string
	for _, o := range id.objects {
		if o.text != "" {
			words = append(words, strings.ToValidUTF8(o.text, "\uFFFD"))
		}
	}
	return strings.Join(words, " ")
}
