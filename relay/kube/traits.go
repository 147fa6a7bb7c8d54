package kube

import (
	"iter"
	"math"

	"github.com/skerry/skerry/firmware/wire"
)

// traits are what Autonomy has to know of each pod and node without decoding them: a relay looks at all of them, and at every change.
type traits uint8

const (
	traitOwn      traits = 1 << iota // a pod says something of autonomy for itself
	traitFixed                       // a pod that is left alone: ended, static, or opted out
	traitMarked                      // a pod is not Ready, though its containers are, and its readiness gates
	traitRestored                    // a pod was made Ready by Autonomy
	traitAgent                       // a Node is one of Skerry's
	traitLost                        // a Node's Ready condition is Unknown: the node controller does not hear from it
)

func (t traits) has(what traits) bool { return t&what != 0 }

// Taints by which Kubernetes evicts the pods of a node that is away.
var awayTaints = []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}

const (
	autonomyLabel  = "node.skerry.dev/autonomy" // of a Node: "false", or how long its pods stay
	autonomyOfPod  = "skerry.dev/autonomy"      // label or annotation of a pod: the same for it alone
	reasonRestored = "NodeCutOff"
)

// forever is how long a pod tolerates that its node is away if there is no limit, in seconds; what is longer is as good.
const forever = math.MaxInt32

// traitsOf returns an object's traits, and how many seconds a pod tolerates that its node is away.
func traitsOf(kind wire.Kind, obj map[string]any) (t traits, patience int32) {
	switch kind {
	case wire.KindNode:
		if text(child(child(obj, "metadata"), "labels"), agentLabel) == "true" {
			t |= traitAgent
		}
		if text(conditionOf(obj, "Ready"), "status") == "Unknown" {
			t |= traitLost
		}
	case wire.KindPod:
		return podTraits(obj), patienceOf(child(obj, "spec"))
	}
	return t, 0
}

func podTraits(obj map[string]any) (t traits) {
	meta, spec, status := child(obj, "metadata"), child(obj, "spec"), child(obj, "status")
	if terminal(text(status, "phase")) || text(child(meta, "annotations"), mirrorAnnotation) != "" || podAutonomy(meta) == "false" {
		t |= traitFixed
	}
	if podAutonomy(meta) != "" {
		t |= traitOwn
	}
	ready := conditionOf(obj, "Ready")
	switch {
	case text(ready, "status") == "True" && text(ready, "reason") == reasonRestored:
		t |= traitRestored
	case text(ready, "status") == "False" && text(conditionOf(obj, "ContainersReady"), "status") == "True":
		t |= traitMarked
		for gate := range items(spec, "readinessGates") {
			if text(conditionOf(obj, text(gate, "conditionType")), "status") != "True" {
				t &^= traitMarked
			}
		}
	}
	return t
}

// patienceOf is the shorter of the times for which the two taints are tolerated, in seconds.
func patienceOf(spec map[string]any) int32 {
	patience := int32(forever)
	for _, taint := range awayTaints {
		tol, _ := tolerating(items(spec, "tolerations"), taint)
		switch s := tol["tolerationSeconds"].(type) {
		case int64:
			patience = int32(min(max(s, 0), int64(patience))) //nolint:gosec // bounded
		default:
			if tol == nil {
				return 0
			}
		}
	}
	return patience
}

// podAutonomy is what a pod says for itself: "" nothing, "false", or a duration.
func podAutonomy(meta map[string]any) string {
	if v := text(child(meta, "annotations"), autonomyOfPod); v != "" {
		return v
	}
	return text(child(meta, "labels"), autonomyOfPod)
}

func conditionOf(obj map[string]any, kind string) map[string]any {
	for c := range items(child(obj, "status"), "conditions") {
		if text(c, "type") == kind {
			return c
		}
	}
	return nil
}

// tolerating returns the first of a pod's tolerations that tolerates the taint with effect NoExecute, which is the one that Kubernetes
// counts, and its position; nil if there is none.
func tolerating(list iter.Seq[map[string]any], taint string) (t map[string]any, at int) {
	for tol := range list {
		key, op, effect := text(tol, "key"), text(tol, "operator"), text(tol, "effect")
		switch {
		case effect != "" && effect != "NoExecute":
		case key != "" && key != taint:
		case op == "Exists", key != "" && (op == "" || op == "Equal") && text(tol, "value") == "": // the taints have no value
			return tol, at
		}
		at++
	}
	return nil, -1
}
