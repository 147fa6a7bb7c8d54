package conformance

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// Pod is the row's pod with values in the place of placeholders. Fields that a Pod does not have are an error.
func (r *Row) Pod(namespace string, values map[string]string) (*corev1.Pod, error) {
	pod := new(corev1.Pod)
	if err := yaml.UnmarshalStrict([]byte(Fill(r.Manifest(namespace), values)), pod); err != nil {
		return nil, fmt.Errorf("%s: %w", r.PodName(), err)
	}
	return pod, nil
}

// Documents reads objects from YAML.
func Documents(docs string) (out []*unstructured.Unstructured, err error) {
	for doc := range strings.SplitSeq("\n"+docs, "\n---") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
			return nil, fmt.Errorf("%w in\n%s", err, doc)
		}
		out = append(out, &unstructured.Unstructured{Object: object})
	}
	if len(out) == 0 {
		return nil, errors.New("no object")
	}
	return out, nil
}

// Resource is where the API keeps objects of a kind.
type Resource struct {
	GVR        schema.GroupVersionResource
	Namespaced bool
}

// ResourceOf finds the resource of one of the kinds that rows use beside pods.
func ResourceOf(o *unstructured.Unstructured) (Resource, error) {
	known := map[string]Resource{
		"ConfigMap": {schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, true}, "Secret": {schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, true},
		"Service": {schema.GroupVersionResource{Version: "v1", Resource: "services"}, true}, "ServiceAccount": {schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, true},
		"PersistentVolumeClaim": {schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}, true},
		"PersistentVolume":      {schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumes"}, false},
		"RuntimeClass":          {schema.GroupVersionResource{Group: "node.k8s.io", Version: "v1", Resource: "runtimeclasses"}, false},
		"PriorityClass":         {schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"}, false},
	}
	r, ok := known[o.GetKind()]
	if !ok {
		return r, fmt.Errorf("rows cannot make objects of kind %q yet", o.GetKind())
	}
	return r, nil
}
