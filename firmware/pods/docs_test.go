package pods

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// manualRow finds rows of the manual's tables of fields: fields, verdict and remark.
var manualRow = regexp.MustCompile("^\\| (`[^|]*`) \\| (yes|no|only[^|]*) \\|")

// TestManualListsEveryField holds docs/pods.md to the table of fields, both ways.
func TestManualListsEveryField(t *testing.T) {
	text, err := os.ReadFile("../../docs/pods.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{"Pod": "spec.", "Containers": "spec.containers[].", "Volumes": "spec.volumes[].", "Probes": "spec.containers[].livenessProbe."}
	quoted := regexp.MustCompile("`([^`]*)`")
	manual := map[string]string{}
	prefix := ""
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			prefix = sections[strings.Trim(title, "# \n")]
		}
		row := manualRow.FindStringSubmatch(line)
		if row == nil || prefix == "" {
			continue
		}
		for _, f := range quoted.FindAllStringSubmatch(row[1], -1) {
			manual[prefix+f[1]] = strings.TrimSpace(row[2])
		}
	}
	rules := newFieldTable().rules
	for path, r := range rules {
		if strings.HasPrefix(path, "spec.initContainers[]") || strings.HasPrefix(path, "spec.ephemeralContainers[]") && !strings.HasSuffix(path, ".targetContainerName") || strings.Contains(path, "readinessProbe.") || strings.Contains(path, "startupProbe.") ||
			strings.Contains(path, "projected.sources[].downwardAPI.") {
			continue // the manual says that they are like the others
		}
		want := "no"
		switch {
		case r.any:
			want = "yes"
		case len(r.only) > 0:
			want = "only"
			for _, v := range r.only {
				if v != "" {
					want += fmt.Sprintf(" `%v`", v)
				}
			}
		}
		if manual[path] != want {
			t.Errorf("docs/pods.md says %q of %s, and the code %q", manual[path], path, want)
		}
	}
	for path := range manual {
		if _, ok := rules[path]; !ok {
			t.Errorf("docs/pods.md lists %s, which the code does not know", path)
		}
	}
}
