//go:build integration

package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	namespace = "skerry-system"
	deadline  = time.Minute
)

// rig is a control plane, prepared with `skerryctl init`, and the tool that renders charts.
type rig struct {
	*stack.Stack
	t      *testing.T
	tool   string
	api    *stack.Cluster
	mapper meta.RESTMapper
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := stacktest.Start(t, stack.Options{NoPods: true})
	var err error
	r := &rig{Stack: s, t: t, tool: buildTool(t)}
	if r.api, err = s.Cluster(); err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(r.api.Core.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	r.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	return r
}

func buildTool(t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "helm")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../../scripts/tools/helm", "-o", tool, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the tool that renders charts: %v\n%s", err, out)
	}
	return tool
}

// render runs the tool; text may be empty.
func render(t *testing.T, tool, text string, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"-chart", "../../relay/deploy/chart"}, args...)
	if text != "" {
		file := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-values", file)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, &stderr)
	}
	return stdout.String(), nil
}

func objects(t *testing.T, text string) (out []*unstructured.Unstructured) {
	t.Helper()
	for dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		u := new(unstructured.Unstructured)
		err := dec.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("what was rendered is not YAML: %v\n%s", err, text)
		}
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
}

func (r *rig) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	r.t.Helper()
	gvk := u.GroupVersionKind()
	m, err := r.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		r.t.Fatalf("%s: %v", gvk, err)
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return r.api.Dynamic.Resource(m.Resource)
	}
	return r.api.Dynamic.Resource(m.Resource).Namespace(u.GetNamespace())
}

// apply does what `kubectl apply --server-side --validate=strict` does.
func (r *rig) apply(text string, dry bool) {
	r.t.Helper()
	yes := true
	opts := metav1.PatchOptions{FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict, Force: &yes}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	for _, u := range objects(r.t, text) {
		b, err := u.MarshalJSON()
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.resource(u).Patch(r.t.Context(), u.GetName(), types.ApplyPatchType, b, opts); err != nil {
			r.t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// remove deletes what was applied and waits until it is gone.
func (r *rig) remove(text string) {
	r.t.Helper()
	foreground := metav1.DeletePropagationForeground
	for _, u := range objects(r.t, text) {
		c := r.resource(u)
		if err := c.Delete(r.t.Context(), u.GetName(), metav1.DeleteOptions{PropagationPolicy: &foreground}); err != nil && !apierrors.IsNotFound(err) {
			r.t.Fatal(err)
		}
		r.eventually(u.GetKind()+" "+u.GetName()+" is gone", func() error {
			_, err := c.Get(r.t.Context(), u.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err == nil {
				err = errors.New("still there")
			}
			return err
		})
	}
}

func (r *rig) eventually(what string, problem func() error) {
	r.t.Helper()
	end := time.Now().Add(deadline)
	for {
		err := problem()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
