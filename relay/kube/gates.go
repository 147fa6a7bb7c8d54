package kube

import (
	"cmp"
	"slices"
)

// gateConditions returns what of a pod's status travels to its node, nil for a pod without readiness gates: the state of the conditions that
// spec.readinessGates name, which others set and the agent waits for. Conditions that the agent itself reports are left out, and so are times and
// words, so that neither its own reports nor a repeated write of a controller change the version.
func gateConditions(spec, status map[string]any) map[string]any {
	gates := map[string]bool{}
	for g := range items(spec, "readinessGates") {
		if t := text(g, "conditionType"); t != "" && !slices.Contains(kubeletConditions, t) {
			gates[t] = true
		}
	}
	if len(gates) == 0 {
		return nil
	}
	list := []any{}
	for c := range items(status, "conditions") {
		if t := text(c, "type"); gates[t] {
			list = append(list, map[string]any{"type": t, "status": text(c, "status")})
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b any) int { // whoever adds a condition may change their order
		return cmp.Compare(text(a.(map[string]any), "type"), text(b.(map[string]any), "type")) //nolint:forcetypeassert // made above
	})
	return map[string]any{"conditions": list}
}
