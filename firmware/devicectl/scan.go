package devicectl

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/localhttp"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// scanFlags are the flags of scan.
type scanFlags struct {
	protocol, units, bauds, parities, transport, timeout string
	set                                                  fields
	first                                                bool
}

// fields are repeated NAME=VALUE flags.
type fields map[string]any

func (f fields) String() string { return "" }
func (f fields) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("NAME=VALUE is needed")
	}
	f[name] = value
	return nil
}

func scan(c *command) error {
	f := scanFlags{set: fields{}}
	c.flags.StringVar(&f.protocol, "protocol", "modbus", "`protocol` to speak")
	c.flags.StringVar(&f.units, "units", "", "unit ids as `FIRST-LAST`; default: 1-247, and over TCP 255 and 0 too")
	c.flags.StringVar(&f.bauds, "bauds", "", "baud rates to try, as `9600,19200`; default: the usual ones")
	c.flags.StringVar(&f.parities, "parities", "", "parities to try, as `none,even`; default: none, even, odd")
	c.flags.StringVar(&f.transport, "transport", "", "`serialType`: TCP, RTU, ASCII, RTUoverTCP, ASCIIoverTCP; default: RTU for a port, TCP for an address")
	c.flags.StringVar(&f.timeout, "timeout", "", "`milliseconds` that a unit has to answer; default: 300")
	c.flags.BoolVar(&f.first, "first", false, "stop when all units have been asked with the settings that found the first one")
	c.flags.Var(f.set, "set", "another configData field, as `NAME=VALUE`, e.g. --set rs485=rts; may be repeated")
	if err := c.parse(1, 1); err != nil {
		return err
	}
	req, err := f.request(c.args[0])
	if err != nil {
		return err
	}
	v := &scanView{command: c}
	err = c.client.Scan(c.ctx, req, v.show)
	if errors.Is(err, localhttp.ErrNotRunning) {
		err = v.alone(req)
	}
	v.clear()
	if err != nil && c.ctx.Err() == nil {
		return err
	}
	return v.end()
}

// request makes what the flags say.
func (f *scanFlags) request(where string) (control.ScanRequest, error) {
	req := control.ScanRequest{Protocol: f.protocol, Config: f.set, First: f.first}
	if strings.HasPrefix(where, "/") {
		f.set["serialPort"] = where
	} else if host, port, err := net.SplitHostPort(where); err == nil {
		f.set["ip"], f.set["port"] = host, port
	} else {
		f.set["ip"] = strings.Trim(where, "[]")
	}
	if f.transport != "" {
		f.set["serialType"] = f.transport
	}
	if f.timeout != "" {
		f.set["timeout"] = f.timeout
	}
	if f.units != "" {
		first, last, ok := strings.Cut(f.units, "-")
		if !ok {
			last = first
		}
		a, err1 := strconv.Atoi(strings.TrimSpace(first))
		b, err2 := strconv.Atoi(strings.TrimSpace(last))
		if err1 != nil || err2 != nil || a < 0 || b > 255 || a > b {
			return req, wrongUsage("--units %q: FIRST-LAST is needed, within 0 to 255", f.units)
		}
		req.Units = [2]int{a, b}
	}
	for _, s := range split(f.bauds) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return req, wrongUsage("--bauds %q: %q is not a baud rate", f.bauds, s)
		}
		req.Bauds = append(req.Bauds, n)
	}
	req.Parities = split(f.parities)
	return req, nil
}

func split(list string) (out []string) {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// scanView shows a scan.
type scanView struct {
	*command
	found []control.Found
	said  int // tenths of the way that have been told
	drawn bool
	last  control.ScanLine
}

// alone scans without an agent: nobody else of ours can have the line then.
func (v *scanView) alone(req control.ScanRequest) error {
	fmt.Fprintln(v.Stderr, "no agent runs on this gateway; the scan is done without one")
	s, err := control.ScannerFor(v.Drivers(), req.Protocol)
	if err != nil {
		return err
	}
	var fault error
	err = control.Scan(v.ctx, s, req, func(l control.ScanLine) {
		if err := v.show(l); err != nil {
			fault = err
		}
	})
	return errors.Join(err, fault)
}

func (v *scanView) show(l control.ScanLine) error {
	if v.json {
		if l.Found != nil {
			v.found = append(v.found, *l.Found)
		}
		if l.Error != nil {
			return l.Error
		}
		return v.line(l)
	}
	switch {
	case l.Error != nil:
		return l.Error
	case l.Found != nil:
		v.clear()
		v.found = append(v.found, *l.Found)
		name := printable(l.Found.Name)
		if name != "" {
			name = "  " + name
		}
		_, err := fmt.Fprintf(v.Stdout, "found %s%s\n", describe(l.Found.Config), name)
		return err
	case l.Ended:
		return nil
	}
	v.last = l
	v.progress(l)
	return nil
}

// progress is drawn in place on a terminal, and told now and then elsewhere.
func (v *scanView) progress(l control.ScanLine) {
	text := fmt.Sprintf("%d of %d asked", l.Done, l.Total)
	if l.Left > 0 {
		text += ", about " + l.Left.Round(time.Second).String() + " left"
	}
	text += "; now " + l.What
	if v.Terminal {
		fmt.Fprintf(v.Stderr, "\r\033[K%s", text)
		v.drawn = true
		return
	}
	if tenth := 10 * l.Done / max(l.Total, 1); tenth > v.said {
		v.said = tenth
		fmt.Fprintln(v.Stderr, text)
	}
}

func (v *scanView) clear() {
	if v.drawn {
		fmt.Fprint(v.Stderr, "\r\033[K")
		v.drawn = false
	}
}

// end sums up.
func (v *scanView) end() error {
	if v.json {
		if len(v.found) == 0 {
			return &ExitError{exitNotWell, ""}
		}
		return nil
	}
	const suspicious = 100
	switch n := len(v.found); {
	case n == 0 && v.ctx.Err() != nil:
		return &ExitError{exitNotWell, fmt.Sprintf("ended after %d of %d: nothing was found", v.last.Done, v.last.Total)}
	case n == 0:
		return &ExitError{exitNotWell, "nothing answered. Is the device powered, are A and B (D+ and D-) the right way round, is the line terminated, is it the right port? A slow device may need --timeout 1000"}
	case n >= suspicious:
		fmt.Fprintf(v.Stdout, "\n%d unit ids answer: a device at its own address often does not look at the unit id, so this may be one device\n", n)
	default:
		fmt.Fprintf(v.Stdout, "\n%d found. configData for a Device:\n", n)
	}
	for i, f := range v.found {
		if i == 10 {
			fmt.Fprintf(v.Stdout, "  … and %d more\n", len(v.found)-i)
			break
		}
		fmt.Fprintf(v.Stdout, "  configData: %s\n", flow(f.Config))
	}
	return nil
}

// describe is a short form of what reaches a device.
func describe(config map[string]any) string {
	var parts []string
	for _, k := range []string{"slaveID", "baudRate", "parity"} {
		if x, ok := config[k]; ok {
			parts = append(parts, fmt.Sprintf("%s %v", map[string]string{"slaveID": "unit", "baudRate": "baud rate", "parity": "parity"}[k], x))
		}
	}
	if len(parts) == 0 {
		return flow(config)
	}
	return strings.Join(parts, ", ")
}

// flow is a map as YAML in one line, which JSON is.
func flow(config map[string]any) string {
	out := make([]string, 0, len(config))
	for _, k := range sortedKeys(config) {
		value, err := json.Marshal(plain(config[k]))
		if err != nil {
			value = []byte(strconv.Quote(fmt.Sprint(config[k])))
		}
		out = append(out, k+": "+string(value))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// plain is a number where a text is one: flags give text.
func plain(v any) any {
	if s, ok := v.(string); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n
		}
	}
	return v
}
