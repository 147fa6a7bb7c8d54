package kube

import (
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

var update = flag.Bool("update", false, "write the golden files of this package anew")

var goldenKinds = map[string]wire.Kind{
	"pod": wire.KindPod, "node": wire.KindNode, "device": wire.KindDevice, "secret": wire.KindSecret,
}

func goldenRecord(t *testing.T, name string) *record {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	res, _ := resourceOf(goldenKinds[name])
	r, err := newRecord(res, decode(t, res, string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTrimGolden holds the bodies to what this TrimVersion makes of API objects. If it fails after a change of the rules,
// raise TrimVersion and run with -update: every agent will receive every object again.
func TestTrimGolden(t *testing.T) {
	if TrimVersion != 2 {
		t.Fatalf("TrimVersion is %d: rename testdata and this test with it", TrimVersion)
	}
	for name := range goldenKinds {
		r := goldenRecord(t, name)
		body, err := canon.ToJSON(r.body)
		if err != nil {
			t.Fatal(err)
		}
		got := string(body) + "\n" + hex.EncodeToString(r.version.Hash[:]) + "\n"
		path := filepath.Join("testdata", name+".v2.golden")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: trimmed to\n%swant\n%s", name, got, want)
		}
	}
}

func TestNodeTaintsOfItsOwnStatusDoNotTravel(t *testing.T) {
	taints := func(list string) string {
		res, _ := resourceOf(wire.KindNode)
		r, err := newRecord(res, decode(t, res, `{"metadata":{"name":"gw-1","uid":"u","resourceVersion":"1"},"spec":{"taints":`+list+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := canon.ToJSON(r.body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	healthy := taints(`[]`)
	for _, key := range echoedTaints {
		if got := taints(`[{"key":"` + key + `","effect":"NoExecute","timeAdded":"2026-11-22T20:01:00Z"}]`); got != healthy {
			t.Errorf("with taint %s the agent is told %s, without %s", key, got, healthy)
		}
	}
	for _, list := range []string{`[{"effect":"NoSchedule","key":"node.kubernetes.io/unschedulable"}]`, `[{"effect":"NoExecute","key":"line","value":"3"}]`} {
		if got := taints(list); !strings.Contains(got, list) {
			t.Errorf("taints %s travel as %s", list, got)
		}
	}
}

func TestReferencesOfPod(t *testing.T) {
	want := []wire.Key{
		"configmaps/default/cfg", "configmaps/default/files", "configmaps/default/kube-root-ca.crt",
		"secrets/default/extra", "secrets/default/init-env", "secrets/default/pull", "secrets/default/sec", "secrets/default/tls",
	}
	r := goldenRecord(t, "pod")
	if !slices.Equal(r.refs, want) {
		t.Errorf("references are %q, want %q", r.refs, want)
	}
	if !r.deleting || r.node != "gw-1" || r.key != "pods/default/web-x/6f2d" || r.revision != 4711 {
		t.Errorf("record is %+v", r)
	}
	if refs := goldenRecord(t, "device").refs; !slices.Equal(refs, []wire.Key{"devicemodels/default/pump-model"}) {
		t.Errorf("references of the device are %q", refs)
	}
}

// TestEchoHasSameVersion: status writes change the object in the API, and nothing for agents.
func TestEchoHasSameVersion(t *testing.T) {
	res, _ := resourceOf(wire.KindPod)
	version := func(rv, status, managed string) wire.Version {
		r, err := newRecord(res, decode(t, res, `{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"`+rv+`","managedFields":`+managed+`},
			"spec":{"nodeName":"n"},"status":`+status+`}`))
		if err != nil {
			t.Fatal(err)
		}
		return r.version
	}
	a := version("1", `{"phase":"Pending"}`, `[]`)
	b := version("2", `{"phase":"Running","podIP":"10.0.0.1"}`, `[{"manager":"skerry-relay"}]`)
	if a != b {
		t.Errorf("a status write changed the version from %+v to %+v", a, b)
	}
}

func TestRevisionMustBeANumber(t *testing.T) {
	res, _ := resourceOf(wire.KindPod)
	if _, err := newRecord(res, decode(t, res, `{"metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"x-1"}}`)); err == nil {
		t.Error("resourceVersion x-1 was accepted")
	}
}

func TestMergePatch(t *testing.T) {
	from := map[string]any{"a": int64(1), "gone": "x", "m": map[string]any{"k": "v", "old": "o"}, "l": []any{"1"}}
	to := map[string]any{"a": int64(1), "m": map[string]any{"k": "v", "new": "n"}, "l": []any{"1", "2"}}
	patch := mergePatch(from, to)
	applyMergePatch(from, patch)
	if mergePatch(from, to) != nil {
		t.Errorf("patch %v turns it into %v, want %v", patch, from, to)
	}
	if _, ok := patch["a"]; ok {
		t.Errorf("patch %v contains what has not changed", patch)
	}
}
