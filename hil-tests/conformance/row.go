package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Row is one promise of the documentation and how it is held.
type Row struct {
	Area    string // set by Rows
	Name    string // unique in the area; lower-case words with dashes, it becomes the pod's name
	Promise string // what the page promises, in our words
	Cite    string // the page below https://kubernetes.io/docs/, with the section
	Spec    string // the pod's spec, in YAML; see Placeholders
	Meta    string // labels and annotations of the pod, in YAML
	Objects string // other objects, YAML documents, made before the pod
	Needs   string // what the runtime or the machine must have; "" for nothing special. One of the Need constants
	Class   Class  // how long a step may take
	Gap     string // in what the gateway does not keep the promise yet: the row must fail, so that one that is closed is noticed
	Alone   bool   // it disturbs others, and runs after them
	Steps   []Step
	Never   []string // sentences that must be false in every version of the pod
}

// Step is something done through the API, if Do says so, and what must be seen after it.
type Step struct {
	Do   Action
	Want []string // sentences that one version of the pod must fulfil, all at once
}

// Action is what a step does first.
type Action struct {
	Verb string // "", create, delete, patch, status, apply, remove, resize, debug
	Arg  string // the document; of delete the grace period in seconds, or nothing for the pod's own
}

// The actions.
func del(grace string) Action             { return Action{"delete", grace} } // delete the pod
func patch(doc string) Action             { return Action{"patch", doc} }    // merge doc into the pod
func apply(doc string) Action             { return Action{"apply", doc} }    // apply other objects
func subresource(name, doc string) Action { return Action{name, doc} }       // patch the pod's subresource: status, resize or ephemeralcontainers

// Placeholders that a row's documents may have, and what they stand for.
var Placeholders = map[string]string{
	"<box>":     "the busybox image",
	"<user>":    "the busybox image whose user is app (1000)",
	"<sample>":  "the sample image, whose entrypoint is a static Go program: an HTTP server, and more",
	"<reg>":     "host:port of the registry",
	"<regport>": "the registry's port",
	"<name>":    "the pod's name, and what names of the row's other objects begin with",
	"<dir>":     "a folder of the node that belongs to the row",
	"<shared>":  "a folder of the node on a file system whose mounts propagate",
	"<ipc>":     "the node's own IPC namespace",
	"<node>":    "the node's name",
	"<digest>":  "digest of the busybox image",
}

// Class is the timing class of a row: what the documentation says or implies about how long it takes.
type Class int

// Timing classes. Their limits are for a machine with two busy cores.
const (
	Soon    Class = iota // as fast as the pod can be started or stopped
	Periods              // some periods of a probe, or a few seconds of work
	BackOff              // at least one back-off of ten seconds
	Refresh              // until a change of another object has reached the pod
)

func (c Class) String() string {
	return [...]string{"soon", "periods", "back-off", "refresh"}[c]
}

// Limit is how long a step of the class may take.
func (c Class) Limit() time.Duration {
	return [...]time.Duration{60 * time.Second, 75 * time.Second, 100 * time.Second, 90 * time.Second}[c]
}

// What rows need of runtime and machine.
const (
	NeedContainerd2 = "containerd 2"
)

// area gives rows their area.
func area(name string, rows ...Row) []Row {
	for i := range rows {
		rows[i].Area = name
	}
	return rows
}

// Rows returns the table.
func Rows() []Row {
	var all []Row
	for _, rows := range [][]Row{
		lifecycleRows(), probeRows(), volumeRows(), envRows(), securityRows(), resourceRows(), imageRows(), networkRows(), terminationRows(), statusRows(), newerRows(),
	} {
		all = append(all, rows...)
	}
	order := map[string]int{}
	for i := range all {
		if _, ok := order[all[i].Area]; !ok {
			order[all[i].Area] = i
		}
	}
	slices.SortStableFunc(all, func(a, b Row) int { return order[a.Area] - order[b.Area] })
	return all
}

// PodName is the name of the row's pod.
func (r *Row) PodName() string { return strings.ToLower(r.Area) + "-" + r.Name }

// URL is the page that the row cites.
func (r *Row) URL() string { return "https://kubernetes.io/docs/" + r.Cite }

// Fill puts values in the place of placeholders.
func Fill(doc string, values map[string]string) string {
	pairs := make([]string, 0, 2*len(values))
	for k, v := range values {
		pairs = append(pairs, k, v)
	}
	return strings.NewReplacer(pairs...).Replace(doc)
}

// Manifest is the row's pod as a manifest in YAML.
func (r *Row) Manifest(namespace string) string {
	meta := ""
	if r.Meta != "" {
		meta = indent(r.Meta, "  ")
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n%sspec:\n%s", r.PodName(), namespace, meta, indent(r.Spec, "  "))
}

func indent(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		b.WriteString(by + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
