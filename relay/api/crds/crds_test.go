package crds

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/fake"
	"k8s.io/apimachinery/pkg/runtime"
)

func established(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	crd = crd.DeepCopy()
	crd.Status.StoredVersions = []string{"v1beta1"}
	crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
	return crd
}

func TestAll(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	subresource := map[string]bool{}
	for _, c := range all {
		subresource[c.Spec.Names.Kind] = c.Spec.Versions[0].Subresources != nil && c.Spec.Versions[0].Subresources.Status != nil
	}
	// KubeEdge's clients write a DeviceStatus through the main resource.
	if len(all) != 3 || !subresource["Device"] || subresource["DeviceStatus"] || subresource["DeviceModel"] {
		t.Errorf("kinds and their status subresources: %v", subresource)
	}
}

func TestInstallChangesOnlyWhatDiffers(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	objs := make([]runtime.Object, len(all))
	for i, c := range all {
		c = established(c)
		if i == 1 {
			c.Spec.Versions[0].AdditionalPrinterColumns = nil
			c.Labels = map[string]string{"kept": "yes"}
		}
		objs[i] = c
	}
	client := fake.NewClientset(objs...)
	got := map[string]Outcome{}
	if err := Install(t.Context(), client, func(name string, o Outcome) { got[name] = o }); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		want := Unchanged
		if i == 1 {
			want = Updated
		}
		if got[c.Name] != want {
			t.Errorf("%s was %s, want %s", c.Name, got[c.Name], want)
		}
	}
}

// A cluster that still stores KubeEdge's older version gets an error that says so, not the API server's.
func TestInstallRefusesToLoseStoredVersions(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	old := established(all[1])
	old.Status.StoredVersions = []string{"v1alpha2", "v1beta1"}
	err = Install(t.Context(), fake.NewClientset(established(all[0]), old, established(all[2])), func(string, Outcome) {})
	if err == nil || !strings.Contains(err.Error(), "v1alpha2") || !strings.Contains(err.Error(), "migrate") {
		t.Errorf("err = %v", err)
	}
}
