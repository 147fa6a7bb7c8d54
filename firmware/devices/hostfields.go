package devices

import (
	"slices"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// hostField tells whether a field of a visitor's configData, in lower case, is for the host, whatever the protocol.
func hostField(name string) bool {
	switch name {
	case "deadband", "expr", "alarms", "history":
		return true
	default:
		return false
	}
}

// hostFields splits a visitor's configData into what the host understands, by lower-case names, and what the driver gets. A
// deadband is for both if the driver describes it: a subscription may apply it at the device.
func hostFields(visitor map[string]any, describes []device.FieldDoc) (host, driver map[string]any) {
	host, driver = make(map[string]any), make(map[string]any, len(visitor))
	for name, v := range visitor {
		lower := strings.ToLower(name)
		if !hostField(lower) {
			driver[name] = v
			continue
		}
		host[lower] = v
		if lower == "deadband" && slices.ContainsFunc(describes, func(f device.FieldDoc) bool { return strings.EqualFold(f.Name, lower) }) {
			driver[name] = v
		}
	}
	return host, driver
}
