package conformance

import (
	"flag"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write docs/conformance.md")

// examples are values of the placeholders, as good as any.
func examples() map[string]string {
	out := map[string]string{}
	for k := range Placeholders {
		out[k] = "v-" + strings.Trim(k, "<>")
	}
	out["<regport>"] = "5000"
	return out
}

// TestTable holds rows to be well formed.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, r := range Rows() {
		if names[r.PodName()] {
			t.Errorf("%s is there twice", r.PodName())
		}
		names[r.PodName()] = true
		if r.Promise == "" || r.Cite == "" || strings.HasPrefix(r.Cite, "/") || len(r.Steps) == 0 {
			t.Errorf("%s promises nothing, cites nothing, or wants nothing", r.PodName())
		}
		if _, err := r.Pod("ns", examples()); err != nil {
			t.Error(err)
		}
		if r.Objects != "" {
			objects, err := Documents(r.Objects)
			if err != nil {
				t.Errorf("%s: %v", r.PodName(), err)
			}
			for _, o := range objects {
				if _, err := ResourceOf(o); err != nil {
					t.Errorf("%s: %v", r.PodName(), err)
				}
			}
		}
		all := r.Never
		for _, s := range r.Steps {
			all = append(all, s.Want...)
		}
		for _, text := range all {
			if _, err := Compile(text); err != nil {
				t.Errorf("%s: %v", r.PodName(), err)
			}
		}
	}
}

// TestPage holds docs/conformance.md to the rows.
func TestPage(t *testing.T) {
	const page = "../../docs/conformance.md"
	text := Markdown(Rows())
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil { //nolint:gosec // a page for all to read
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != text {
		t.Errorf("docs/conformance.md is not what the rows say (%v): go test ./hil-tests/conformance -update", err)
	}
}

// manualRow finds rows of the tables of fields in docs/pods.md: fields and verdict.
var manualRow = regexp.MustCompile("^\\| (`[^|]*`) \\| (yes|only[^|]*) \\|")

// supported reads from docs/pods.md which fields are supported.
func supported(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/pods.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{"Pod": "spec.", "Containers": "spec.containers[].", "Volumes": "spec.volumes[].", "Probes": "spec.containers[].livenessProbe."}
	quoted := regexp.MustCompile("`([^`]*)`")
	var out []string
	prefix := ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			prefix = sections[strings.Trim(title, "# \n")]
		}
		if row := manualRow.FindStringSubmatch(line); row != nil && prefix != "" {
			for _, f := range quoted.FindAllStringSubmatch(row[1], -1) {
				out = append(out, prefix+f[1])
			}
		}
	}
	if len(out) < 100 {
		t.Fatalf("docs/pods.md lists %d fields only: this test cannot read it any more", len(out))
	}
	return out
}

// paths adds the paths of a document's fields; indexes are "[]", and init and ephemeral containers count as containers, probes as liveness probes.
func paths(path string, v any, out map[string]bool) {
	out[path] = true
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			switch k {
			case "initContainers":
				k = "containers"
			case "readinessProbe", "startupProbe":
				k = "livenessProbe"
			}
			paths(path+"."+k, e, out)
		}
	case []any:
		for _, e := range v {
			paths(path+"[]", e, out)
		}
	}
}

// TestFields holds that each field which docs/pods.md calls supported is in the pod of some row, or is listed here with the reason.
func TestFields(t *testing.T) {
	const unseen = "nothing of it can be seen through the API"
	elsewhere := map[string]string{
		"spec.nodeName": "the scheduler sets it in every row", "spec.serviceAccount": "the API server sets it in every row",
		"spec.schedulingGates": "the API server binds no pod that has some", "spec.priority": "the API server sets it in every row", "spec.priorityClassName": "status-whole has it empty; " + unseen,
	}
	have := map[string]bool{}
	for _, r := range Rows() {
		for _, spec := range append(arguments(&r), r.Spec) {
			var doc any
			if err := yaml.Unmarshal([]byte(Fill(spec, examples())), &doc); err == nil {
				paths("spec", doc, have)
			}
		}
	}
	var missing []string
	for _, f := range supported(t) {
		if have[f] || elsewhere[f] != "" || lacking[f] != "" || strings.Contains(f, "hugepages-") || strings.Contains(f, "seLinuxOptions.") || strings.HasSuffix(f, "appArmorProfile.localhostProfile") { // the machine has none: unit tests
			continue
		}
		missing = append(missing, f)
	}
	for f := range maps.Keys(lacking) {
		if have[f] {
			t.Errorf("%s is in a row: it is not lacking any more", f)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no row has these fields: %s", strings.Join(missing, " "))
	}
}

// arguments are the documents of a row's actions that are specs of pods.
func arguments(r *Row) (out []string) {
	for _, s := range r.Steps {
		switch s.Do.Verb {
		case "create":
			out = append(out, s.Do.Arg)
		case "ephemeralcontainers":
			var doc struct{ Spec any }
			if yaml.Unmarshal([]byte(s.Do.Arg), &doc) == nil {
				if text, err := yaml.Marshal(doc.Spec); err == nil {
					out = append(out, string(text))
				}
			}
		}
	}
	return out
}

// lacking are fields that no row has yet, and where they are tested instead.
var lacking = map[string]string{
	"spec.securityContext.seccompProfile.localhostProfile":   "profiles lie in a folder of the machine: unit tests; a missing one is a row, with the container's own profile",
	"spec.resources.requests.ephemeral-storage":              "firmware/pods, and what eviction does with it",
	"spec.containers[].resources.requests.ephemeral-storage": "firmware/pods, and what eviction does with it",
	"spec.containers[].resources.limits.ephemeral-storage":   "firmware/pods, and hil-tests/pods with a real disk",
	"spec.containers[].lifecycle.stopSignal":                 "the API server drops it, its gate is off by default: TestStopSignal has a static pod; what an image says is a row",
	"spec.volumes[].ephemeral.volumeClaimTemplate":           "needs a provisioner: the claim that it makes is the row claim's",
}
