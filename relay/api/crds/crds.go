// Package crds carries the generated CustomResourceDefinitions of the device API inside the binary, so that
// `skerryctl init` and the tests install exactly what this version's types mean.
//
// Usage: All returns them decoded; Install applies them to a cluster and waits until they are served. Both are safe to
// call concurrently, and Install is idempotent. Tested here with a fake clientset, and against a real API server in the
// integration tests.
package crds

import (
	"embed"
	"fmt"
	"io/fs"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

//go:embed *.yaml
var files embed.FS

// All returns the definitions in the order of their names.
func All() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	out := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(names))
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		crd := new(apiextensionsv1.CustomResourceDefinition)
		if err := yaml.UnmarshalStrict(b, crd); err != nil {
			return nil, fmt.Errorf("embedded manifest %s: %w", name, err)
		}
		out = append(out, crd)
	}
	return out, nil
}
