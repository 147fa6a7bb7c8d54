package conformance

import (
	"fmt"
	"strings"
)

// Markdown is the table as docs/conformance.md shows it.
func Markdown(rows []Row) string {
	var b strings.Builder
	gaps, needs := 0, 0
	for i := range rows {
		if rows[i].Gap != "" {
			gaps++
		}
		if rows[i].Needs != "" {
			needs++
		}
	}
	fmt.Fprintf(&b, `# Conformance of pods

<!-- Written by `+"`go test ./hil-tests/conformance -update`"+` from the rows in hil-tests/conformance; the test holds this page to them. -->

What the Kubernetes documentation promises about pods, row by row, and what the Kubernetes API of a cluster with a gateway has to show.
%s runs the table: control plane, relay, agent and containerd are the real ones, and nothing but the Kubernetes API is driven and looked at. What only a
container can see, it tells in its termination message. [Development](development.md#conformance-of-pods) says how to run single rows; the pods themselves are in
`+"`hil-tests/conformance/rows_*.go`"+`.

%d rows, %d of them with a gap that is still open, %d that need a newer runtime than Debian's containerd 1.6. [Container runtimes](runtimes.md#cri-o) says which of them pass on CRI-O.

**Time**: how long a step may take at most on a machine with two busy cores: *soon* %v, *periods* (of probes, or some seconds of work) %v, *back-off* (one of ten seconds
at least) %v, *refresh* (a change of another object has to reach the pod) %v.
`, "`make conformance`", len(rows), gaps, needs, Soon.Limit(), Periods.Limit(), BackOff.Limit(), Refresh.Limit())
	area := ""
	for i := range rows {
		r := &rows[i]
		if r.Area != area {
			area = r.Area
			fmt.Fprintf(&b, "\n## %s\n\n| row | promise | what the API shows | time |\n|---|---|---|---|\n", area)
		}
		fmt.Fprintf(&b, "| `%s` | [%s](%s)%s | %s | %s |\n", r.Name, escape(r.Promise), r.URL(), note(r), shows(r), r.Class)
	}
	return b.String()
}

func note(r *Row) (text string) {
	if r.Needs != "" {
		text += ". Needs " + r.Needs
	}
	if r.Gap != "" {
		text += ". **Gap**: " + escape(r.Gap)
	}
	return text
}

// shows is a row's sentences in one cell.
func shows(r *Row) string {
	var parts []string
	for _, s := range r.Steps {
		text := ""
		switch s.Do.Verb {
		case "":
		case "delete":
			text = "*delete*: "
		default:
			text = "*" + s.Do.Verb + "*: "
		}
		quoted := make([]string, len(s.Want))
		for i, w := range s.Want {
			quoted[i] = "`" + escape(strings.TrimRight(w, "\n")) + "`"
		}
		parts = append(parts, text+strings.Join(quoted, " "))
	}
	for _, n := range r.Never {
		parts = append(parts, "never `"+escape(n)+"`")
	}
	return strings.Join(parts, "; then ")
}

func escape(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\t", " ").Replace(text)
}
