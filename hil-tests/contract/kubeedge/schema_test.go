package kubeedge

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/skerry/skerry/relay/api/crds"
)

// judge is what an API server makes of one of our CRDs.
type judge struct {
	structural *schema.Structural
	openapi    validation.SchemaValidator
	cel        *cel.Validator
}

func judges(t *testing.T) map[string]judge {
	t.Helper()
	all, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := apiextensions.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	out := map[string]judge{}
	for _, crd := range all {
		crd = crd.DeepCopy()
		scheme.Default(crd)
		internal := new(apiextensions.CustomResourceDefinition)
		if err := scheme.Convert(crd, internal, nil); err != nil {
			t.Fatal(err)
		}
		internal.Status.StoredVersions = []string{"v1beta1"}
		// What `kubectl apply` of the CRD itself would be told, the cost of the CEL rules included.
		if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal); len(errs) > 0 {
			t.Errorf("%s: %v", crd.Name, errs.ToAggregate())
		}
		props := new(apiextensions.CustomResourceValidation)
		if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(crd.Spec.Versions[0].Schema, props, nil); err != nil {
			t.Fatal(err)
		}
		s, err := schema.NewStructural(props.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
		if err != nil {
			t.Fatal(err)
		}
		out[crd.Spec.Names.Kind] = judge{s, v, cel.NewValidator(s, true, 10_000_000)}
	}
	return out
}

// see prunes doc as the API server does, and returns what it says against it.
func (j judge) see(doc map[string]any) field.ErrorList {
	pruning.Prune(doc, j.structural, true)
	errs := validation.ValidateCustomResource(nil, doc, j.openapi)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, j.structural, doc)...)
	celErrs, _ := j.cel.Validate(context.Background(), nil, j.structural, doc, nil, 10_000_000)
	return append(errs, celErrs...)
}

// integers turns whole float64s into int64s, as the API server's JSON decoder does.
func integers(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case map[string]any:
		for k, e := range v {
			v[k] = integers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = integers(e)
		}
	}
	return v
}

func TestEveryFieldSurvivesOurSchema(t *testing.T) {
	js := judges(t)
	for _, p := range pairs {
		want, _ := filled(t, p.kind, p.theirs())
		// Names are unique in ours; the filler numbers them, so they are.
		doc := integers(runtime.DeepCopyJSON(integers(want).(map[string]any))).(map[string]any)
		if errs := js[p.kind].see(doc); len(errs) > 0 {
			t.Errorf("%s: %v", p.kind, errs.ToAggregate())
		}
		if diff := cmp.Diff(want, doc); diff != "" {
			t.Errorf("%s: the schema prunes fields of theirs (-theirs +kept):\n%s", p.kind, diff)
		}
	}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	return integers(doc).(map[string]any)
}

// Manifests in the shapes that KubeEdge's users have: odd, and accepted there.
func TestAccepts(t *testing.T) {
	js := judges(t)
	for name, text := range map[string]string{
		"property without type or access":   `{kind: DeviceModel, spec: {properties: [{name: a}]}}`,
		"range of a string":                 `{kind: DeviceModel, spec: {properties: [{name: a, type: STRING, minimum: z, maximum: a}]}}`,
		"range that is not a number":        `{kind: DeviceModel, spec: {properties: [{name: a, type: INT, minimum: low, maximum: "1"}]}}`,
		"equal bounds":                      `{kind: DeviceModel, spec: {properties: [{name: a, type: INT, minimum: "5", maximum: "5"}]}}`,
		"one bound":                         `{kind: DeviceModel, spec: {properties: [{name: a, type: INT, maximum: "5"}]}}`,
		"no node yet":                       `{kind: Device, spec: {nodeName: "", deviceModelRef: {name: m}}}`,
		"nanoseconds taken for the cycle":   `{kind: Device, spec: {properties: [{name: a, collectCycle: 30000000000}]}}`,
		"old status":                        `{kind: Device, status: {reportToCloud: true, reportCycle: 1000, twins: [{propertyName: a}], state: ok}}`,
		"method of a property of the model": `{kind: Device, spec: {methods: [{name: m, propertyNames: [speed, level]}]}}`,
	} {
		doc := parse(t, text)
		if errs := js[doc["kind"].(string)].see(doc); len(errs) > 0 {
			t.Errorf("%s is refused: %v", name, errs.ToAggregate())
		}
	}
}

func TestRefuses(t *testing.T) {
	js := judges(t)
	for _, c := range []struct{ text, at, says string }{
		{`{kind: DeviceModel, spec: {properties: [{name: a, type: int}]}}`, "spec.properties[0].type", `"INT"`},
		{`{kind: DeviceModel, spec: {properties: [{name: a, accessMode: RW}]}}`, "spec.properties[0].accessMode", `"ReadWrite"`},
		{`{kind: DeviceModel, spec: {properties: [{name: a, type: INT, minimum: "10", maximum: "9"}]}}`, "spec.properties[0]", "minimum must not be greater than maximum"},
		{`{kind: DeviceModel, spec: {properties: [{name: a}, {name: b}, {name: a}]}}`, "spec.properties[2]", "Duplicate"},
		{`{kind: DeviceModel, spec: {properties: [{type: INT}]}}`, "spec.properties[0].name", "Required"},
		{`{kind: Device, spec: {properties: [{name: a}, {name: a}]}}`, "spec.properties[1]", "Duplicate"},
		{`{kind: Device, spec: {properties: [{name: ""}]}}`, "spec.properties[0].name", "at least 1"},
		{`{kind: Device, spec: {methods: [{name: a}, {name: a}]}}`, "spec.methods[1]", "Duplicate"},
		{`{kind: Device, spec: {properties: [{name: a, collectCycle: -1}]}}`, "spec.properties[0].collectCycle", "greater than or equal to 0"},
		{`{kind: Device, spec: {properties: [{name: a, reportCycle: -1}]}}`, "spec.properties[0].reportCycle", "greater than or equal to 0"},
		{`{kind: Device, spec: {properties: [{name: a, desired: {}}]}}`, "spec.properties[0].desired.value", "Required"},
		{`{kind: Device, spec: {stateReport: {reportCycle: -5}}}`, "spec.stateReport.reportCycle", "greater than or equal to 0"},
		{`{kind: Device, spec: {nodeName: GW_1}}`, "spec.nodeName", "should match"},
		{`{kind: Device, spec: {protocol: {configData: 7}}}`, "spec.protocol.configData", "object"},
		{`{kind: Device, spec: {properties: [{name: a, pushMethod: {mqtt: {qos: 3}}}]}}`, "spec.properties[0].pushMethod.mqtt.qos", "less than or equal to 2"},
		{`{kind: Device, spec: {properties: [{name: a, pushMethod: {http: {port: 70000}}}]}}`, "spec.properties[0].pushMethod.http.port", "less than or equal to 65535"},
	} {
		doc := parse(t, c.text)
		errs := js[doc["kind"].(string)].see(doc)
		found := false
		for _, e := range errs {
			found = found || e.Field == c.at && strings.Contains(e.Error(), c.says)
		}
		if !found {
			t.Errorf("%s\n got %v\nwant %s: …%s…", c.text, errs.ToAggregate(), c.at, c.says)
		}
	}
}
