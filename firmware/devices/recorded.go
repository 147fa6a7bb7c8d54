package devices

import (
	"fmt"
	"strings"
)

// recorded judges whether a property's values are kept on the gateway (firmware/history): those that ask for it with `history: true` in the visitor's
// configData, and those with a pushMethod that do not refuse it. where is the path of the configData.
func (p *plan) recorded(prop *property, pushed bool, where string) bool {
	given, ok := prop.host["history"]
	if !ok {
		return pushed
	}
	switch strings.ToLower(strings.TrimSpace(fmt.Sprint(given))) {
	case "true":
		return true
	case "false":
		return false
	default:
		p.fail(reasonInvalidVisitor, false, "%s.history: %q: allowed: true (values are kept on the gateway, docs/history.md), false", where, clip(fmt.Sprint(given)))
		return pushed
	}
}
