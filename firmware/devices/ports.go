package devices

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// Port is a serial port of the board.
type Port struct {
	Name  string   // which devices may give instead of a path
	Path  string   // that it has here
	Paths []string // all that it may have
	Mode  string   // who switches an RS-485 transmitter, as the field rs485; empty: not known
}

// Fields of drivers with serial lines (mappers/serialline).
const (
	fieldPort      = "serialPort"
	fieldDirection = "rs485"
)

// usePort puts the path in the place of a port's name in protocol, and the board's RS-485 mode where the device gives none.
func usePort(protocol map[string]any, driver device.Driver, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	fields := driver.Describe().Device
	at := slices.IndexFunc(fields, func(f device.FieldDoc) bool { return f.Name == fieldPort })
	if at < 0 {
		return nil
	}
	key := keyOf(protocol, append([]string{fieldPort}, fields[at].Aliases...)...)
	given, ok := protocol[key].(string)
	if given = strings.TrimSpace(given); !ok || given == "" {
		return nil
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return strings.EqualFold(p.Name, given) || slices.Contains(p.Paths, given) })
	path := strings.HasPrefix(given, "/")
	switch {
	case i < 0 && path: // an adapter that the board does not know
		return nil
	case i < 0:
		names := make([]string, len(ports))
		for i := range ports {
			names[i] = ports[i].Name
		}
		return fmt.Errorf("spec.protocol.configData.%s: %q: the board has no serial port of this name; allowed: %s, or an absolute path", key, clip(given), strings.Join(names, ", "))
	case !path:
		protocol[key] = ports[i].Path
	}
	if mode := ports[i].Mode; mode != "" && mode != "auto" && keyOf(protocol, fieldDirection) == "" {
		protocol[fieldDirection] = mode
	}
	return nil
}

// keyOf returns how one of the names is spelled in a configuration, "" if none is there.
func keyOf(protocol map[string]any, names ...string) string {
	for k := range protocol {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, k) }) {
			return k
		}
	}
	return ""
}
