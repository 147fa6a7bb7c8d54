package devices

import (
	"cmp"
	"fmt"
	"strings"
)

// recorded judges whether a property's values are kept on the gateway (firmware/history): those that ask for it with `history: true` in the visitor's
// configData, and those with a pushMethod that do not refuse it. where is the path of the configData.
func (p *plan) recorded(prop *property, pushed bool, where string) bool {
	given, ok := prop.has().host["history"]
	if !ok {
		return pushed
	}
	switch strings.ToLower(strings.TrimSpace(fmt.Sprint(given))) {
	case "true":
		if p.asked++; p.asked == 1 {
			p.asks = where + ".history"
		}
		return true
	case "false":
		return false
	default:
		p.fail(reasonInvalidVisitor, false, "%s.history: %q: allowed: true (values are kept on the gateway, docs/history.md), false", where, clip(fmt.Sprint(given)))
		return pushed
	}
}

// missHistory says which properties ask for a history that this agent does not keep. why is Options.NoHistory.
func (p *plan) missHistory(why string) {
	if p.asked == 0 {
		return
	}
	others := ""
	if p.asked > 1 {
		others = fmt.Sprintf(" (and %d more properties)", p.asked-1)
	}
	p.fail(reasonNoHistory, false, "%s%s: values are read and reported, and not kept: %s; or remove the field", p.asks, others,
		cmp.Or(why, "this agent keeps no history of device values"))
}
