package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/skerry/skerry/relay/config"
	"github.com/skerry/skerry/relay/setup"
)

// documents are the objects of a file of YAML.
func documents(t *testing.T, path string) (out []json.RawMessage) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(doc) > 0 && string(doc) != "null" {
			out = append(out, doc)
		}
	}
}

// TestRights: the plain YAML grants what `skerryctl init` grants, to the same account, and nothing else.
func TestRights(t *testing.T) {
	granted := map[string][]rbacv1.PolicyRule{} // by namespace, "" for the cluster
	bound := map[string]bool{}
	for _, doc := range documents(t, "skerry-relay.yaml") {
		var o struct {
			Kind     string
			Metadata struct{ Name, Namespace string }
			Rules    []rbacv1.PolicyRule
			RoleRef  rbacv1.RoleRef
			Subjects []rbacv1.Subject
		}
		if err := json.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "Role", "ClusterRole":
			granted[o.Metadata.Namespace] = o.Rules
		case "RoleBinding", "ClusterRoleBinding":
			want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: setup.ServiceAccount, Namespace: "skerry-system"}}
			if o.RoleRef.Name != setup.ServiceAccount || !reflect.DeepEqual(o.Subjects, want) {
				t.Errorf("%s %s binds %v to %v", o.Kind, o.Metadata.Name, o.RoleRef, o.Subjects)
			}
			bound[o.Metadata.Namespace] = true
		}
	}
	want := map[string][]rbacv1.PolicyRule{"": setup.Rights().Cluster}
	for _, n := range setup.Rights().Namespaces {
		want[n.Namespace] = n.Rules
	}
	if !reflect.DeepEqual(granted, want) {
		t.Errorf("granted: %v\nwant, from relay/setup: %v\n(make generate)", granted, want)
	}
	for ns := range want {
		if !bound[ns] {
			t.Errorf("the rights in namespace %q are bound to nobody", ns)
		}
	}
}

// TestPolicies: the plain YAML has the policies that `skerryctl init` makes, for the same account, and they are in force.
func TestPolicies(t *testing.T) {
	have, bound := map[string]admissionv1.ValidatingAdmissionPolicySpec{}, map[string]bool{}
	for _, doc := range documents(t, "skerry-relay.yaml") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     json.RawMessage
		}
		if err := json.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}
		switch o.Kind {
		case "ValidatingAdmissionPolicy":
			var spec admissionv1.ValidatingAdmissionPolicySpec
			if err := json.Unmarshal(o.Spec, &spec); err != nil {
				t.Fatal(err)
			}
			have[o.Metadata.Name] = spec
		case "ValidatingAdmissionPolicyBinding":
			var spec admissionv1.ValidatingAdmissionPolicyBindingSpec
			if err := json.Unmarshal(o.Spec, &spec); err != nil {
				t.Fatal(err)
			}
			bound[spec.PolicyName] = reflect.DeepEqual(spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) && spec.MatchResources == nil
		}
	}
	for _, p := range setup.Policies() {
		if !reflect.DeepEqual(have[p.Name], p.Spec) {
			t.Errorf("%s is %+v, want, from relay/setup, %+v (make generate)", p.Name, have[p.Name], p.Spec)
		}
		if !bound[p.Name] {
			t.Errorf("%s is not in force", p.Name)
		}
		if conditions := p.Spec.MatchConditions; len(conditions) != 1 || !strings.Contains(conditions[0].Expression, "'"+setup.Account+"'") {
			t.Errorf("%s is about %v, want the relay's account alone", p.Name, conditions)
		}
	}
	if len(have) != len(setup.Policies()) {
		t.Errorf("the plain YAML has %d policies", len(have))
	}
}

// schema is what the test reads of values.schema.json.
type schema struct {
	Type       any               `json:"type"`
	Closed     json.RawMessage   `json:"additionalProperties"`
	Properties map[string]schema `json:"properties"`
}

func valuesSchema(t *testing.T) schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("chart", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestConfigKeys: the chart takes each key of the relay's configuration but those that it sets itself, and no other.
func TestConfigKeys(t *testing.T) {
	own := []string{"name", "kubeconfig", "listen", "address", "metricsAddress", "pprof", "drain", "kubelet"}
	var walk func(prefix string, typ reflect.Type, s schema)
	walk = func(prefix string, typ reflect.Type, s schema) {
		if string(s.Closed) != "false" {
			t.Errorf("config%s: keys that do not exist are not refused", prefix)
		}
		var keys []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := f.Tag.Get("yaml")
			if prefix == "" && slices.Contains(own, key) {
				continue
			}
			keys = append(keys, key)
			p, ok := s.Properties[key]
			if !ok {
				t.Errorf("config%s.%s: values.schema.json does not know it", prefix, key)
			} else if f.Type.Kind() == reflect.Struct {
				walk(prefix+"."+key, f.Type, p)
			}
		}
		for key := range s.Properties {
			if !slices.Contains(keys, key) {
				t.Errorf("config%s.%s: the relay has no such key, or the chart sets it", prefix, key)
			}
		}
	}
	walk("", reflect.TypeFor[config.Config](), valuesSchema(t).Properties["config"])
}

// TestRenderedConfig: the relay takes the configuration that the plain YAML gives it.
func TestRenderedConfig(t *testing.T) {
	for _, doc := range documents(t, "skerry-relay.yaml") {
		var o struct {
			Kind string
			Data map[string]string
		}
		if err := json.Unmarshal(doc, &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind != "ConfigMap" {
			continue
		}
		path := filepath.Join(t.TempDir(), "relay.yaml")
		if err := os.WriteFile(path, []byte(o.Data["relay.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse([]string{"--config", path, "--name", "skerry-relay-6d5f7-x2", "--address", "[192.0.2.7]:7443"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if c.Listen != ":7443" || c.MetricsAddress != ":7480" || c.Drain.Period.Seconds() != 10 {
			t.Errorf("got %+v", c)
		}
		return
	}
	t.Fatal("there is no ConfigMap")
}

// TestTimeToEnd: pods have the time that the relay's configuration lets it take, and the chart takes as long a drain as the relay does.
func TestTimeToEnd(t *testing.T) {
	text, err := os.ReadFile("skerry-relay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	number := func(pattern string, in []byte) time.Duration {
		t.Helper()
		m := regexp.MustCompile(pattern).FindSubmatch(in)
		if m == nil {
			t.Fatalf("no %s", pattern)
		}
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Second
	}
	drain, grace := number(`period: (\d+)s`, text), number(`terminationGracePeriodSeconds: (\d+)`, text)
	if grace < drain+config.AfterDrain {
		t.Errorf("a relay that drains for %v may take %v more, and has %v", drain, config.AfterDrain, grace)
	}
	template, err := os.ReadFile(filepath.Join("chart", "templates", "deployment.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if more := number(`terminationGracePeriodSeconds: \{\{ add \(int .Values.drainSeconds\) (\d+) \}\}`, template); more < config.AfterDrain {
		t.Errorf("the chart gives %v more than the drain", more)
	}
	var s struct {
		Properties struct {
			DrainSeconds struct{ Maximum int64 } `json:"drainSeconds"`
		}
	}
	schema, err := os.ReadFile(filepath.Join("chart", "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(schema, &s); err != nil || time.Duration(s.Properties.DrainSeconds.Maximum)*time.Second != config.MaxDrain {
		t.Errorf("the chart takes drains of up to %d s, the relay of %v (%v)", s.Properties.DrainSeconds.Maximum, config.MaxDrain, err)
	}
}

// TestMemoryLimit: the garbage collector's limit follows the container's, which a value in the environment would hinder.
func TestMemoryLimit(t *testing.T) {
	text, err := os.ReadFile("skerry-relay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Contains(s, "GOMEMLIMIT") || !strings.Contains(s, "memory: 768Mi") {
		t.Error("the plain YAML sets GOMEMLIMIT, or limits no memory")
	}
}

// TestSchemaKnowsValues: values.yaml shows every value, and the schema knows each.
func TestSchemaKnowsValues(t *testing.T) {
	docs := documents(t, filepath.Join("chart", "values.yaml"))
	if len(docs) != 1 {
		t.Fatalf("%d documents", len(docs))
	}
	var values map[string]any
	if err := json.Unmarshal(docs[0], &values); err != nil {
		t.Fatal(err)
	}
	s := valuesSchema(t)
	for key := range s.Properties {
		if _, ok := values[key]; !ok && key != "global" {
			t.Errorf("values.yaml does not show %s", key)
		}
	}
	for key, v := range values {
		p, ok := s.Properties[key]
		if !ok {
			t.Errorf("the schema does not know %s", key)
		}
		if m, is := v.(map[string]any); is && p.Properties != nil {
			for k := range m {
				if _, ok := p.Properties[k]; !ok {
					t.Errorf("the schema does not know %s.%s", key, k)
				}
			}
		}
	}
}

// TestNothingToOverwrite: applying the plain YAML again must not touch what init and the relays keep in the cluster.
func TestNothingToOverwrite(t *testing.T) {
	for _, doc := range documents(t, "skerry-relay.yaml") {
		if text := string(doc); strings.Contains(text, `"kind":"Secret"`) || strings.Contains(text, "skerry-revoked") {
			t.Errorf("the plain YAML holds %s", text)
		}
	}
}

// TestAlerts: the rules speak of metrics that docs/relay.md lists.
func TestAlerts(t *testing.T) {
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile("../../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`skerry_relay_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 8 {
		t.Fatalf("only %v", names)
	}
	for _, name := range names {
		if !strings.Contains(string(reference), "`"+name) {
			t.Errorf("docs/relay.md does not describe %s", name)
		}
	}
	for _, doc := range documents(t, "alerts.yaml") {
		var file struct {
			Groups []struct {
				Rules []struct{ Alert, Expr string }
			}
		}
		if err := json.Unmarshal(doc, &file); err != nil {
			t.Fatal(err)
		}
		for _, r := range file.Groups[0].Rules {
			if r.Expr == "" || !strings.Contains(string(guide), "`"+r.Alert+"`") {
				t.Errorf("docs/deploy.md does not say what to do about %q", r.Alert)
			}
		}
	}
}
