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
func hostFields(visitor map[string]any, driver device.Driver) (host, own map[string]any) {
	for name := range visitor {
		if hostField(strings.ToLower(name)) {
			host = make(map[string]any)
		}
	}
	if host == nil { // as nearly always
		return nil, visitor
	}
	own = make(map[string]any, len(visitor))
	for name, v := range visitor {
		lower := strings.ToLower(name)
		if hostField(lower) {
			host[lower] = v
		}
		if !hostField(lower) || lower == "deadband" && describes(driver, lower) {
			own[name] = v
		}
	}
	return host, own
}

func describes(driver device.Driver, field string) bool {
	return slices.ContainsFunc(driver.Describe().Visitor, func(f device.FieldDoc) bool { return strings.EqualFold(f.Name, field) })
}

// OwnFields returns what is the mapper's of a visitor's configData, and whether the property is calculated and not the device's at all.
func OwnFields(visitor map[string]any) (own map[string]any, calculated bool) {
	own = make(map[string]any, len(visitor))
	for name, v := range visitor {
		switch lower := strings.ToLower(name); {
		case lower == "expr" && v != nil && v != "":
			calculated = true
		case !hostField(lower):
			own[name] = v
		}
	}
	return own, calculated
}
