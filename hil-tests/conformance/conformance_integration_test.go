//go:build integration

package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// atOnce is how many rows run at the same time: most of them wait most of the time.
const atOnce = "14"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestConformance runs the table on Debian's containerd.
func TestConformance(t *testing.T) {
	conform(t, stack.Options{}, "", nil)
}

// conform runs the table on a runtime: the rows that need nothing special or what it has, but not those that except names, each with its reason.
func conform(t *testing.T, o stack.Options, has string, except map[string]string) {
	began := time.Now()
	w := newWorld(t, o)
	up := time.Since(began)
	version, err := w.Runtime.Client().Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	results := map[string]string{}
	rows := Rows()
	run := func(r *Row) func(t *testing.T) {
		return func(t *testing.T) {
			if !r.Alone {
				t.Parallel()
			}
			began, verdict := time.Now(), "FAILED"
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				results[r.PodName()] = fmt.Sprintf("%-8s %5.1f s", verdict, time.Since(began).Seconds())
			}()
			switch err := w.row(t, r); {
			case err != nil && r.Gap != "":
				verdict = "gap"
			case err != nil:
				t.Error(err)
			case r.Gap != "":
				t.Errorf("the row passes: remove its Gap (%s)", r.Gap)
			default:
				verdict = "ok"
			}
		}
	}
	for _, alone := range []bool{false, true} {
		t.Run(map[bool]string{false: "rows", true: "alone"}[alone], func(t *testing.T) {
			for i := range rows {
				if r := &rows[i]; r.Alone == alone && (r.Needs == "" || r.Needs == has) && except[r.PodName()] == "" {
					t.Run(r.PodName(), run(r))
				}
			}
		})
	}
	var b strings.Builder
	failed := 0
	for i := range rows {
		r := &rows[i]
		result := results[r.PodName()]
		switch {
		case result == "" && r.Needs != "" && r.Needs != has:
			result = "needs " + r.Needs
		case result == "":
			result = "not run"
		case strings.HasPrefix(result, "FAILED"):
			failed++
		}
		fmt.Fprintf(&b, "  %-36s %-18s %s\n", r.PodName(), result, r.Promise)
	}
	fmt.Printf("conformance on %s %s: %d rows, %d failed, %.0f s, of which %.0f s to start the system\n%s", version.RuntimeName, version.RuntimeVersion, len(results), failed, time.Since(began).Seconds(), up.Seconds(), b.String())
}

// row runs one row and removes what it made, without waiting for it. The error says what the API did not show.
func (w *world) row(t *testing.T, r *Row) error {
	values := w.valuesOf(r)
	if err := os.MkdirAll(values["<dir>"], 0o755); err != nil {
		t.Fatal(err)
	}
	name := r.PodName()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		grace := int64(1)
		if err := w.cluster.Core.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	if r.Objects != "" {
		w.apply(t, Fill(r.Objects, values))
	}
	w.do(t, r, Action{"create", r.Spec}, values)
	cursor := 0
	for i, s := range r.Steps {
		if s.Do.Verb != "" {
			w.do(t, r, s.Do, values)
		}
		var err error
		if cursor, err = w.await(t, r, i, cursor, values); err != nil {
			return err
		}
	}
	views, _ := w.views(name, 0)
	for _, text := range r.Never {
		is := compile(t, Fill(text, values)).Is
		for i := range views {
			if yes, saw := is(&views[i]); yes {
				return fmt.Errorf("%q was true: %s", text, saw)
			}
		}
	}
	return nil
}

func compile(t *testing.T, text string) Sentence {
	t.Helper()
	s, err := Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// await waits until a version of the pod, not before cursor, fulfils a step, and returns its number.
func (w *world) await(t *testing.T, r *Row, step, cursor int, values map[string]string) (int, error) {
	t.Helper()
	want := make([]Sentence, len(r.Steps[step].Want))
	for i, text := range r.Steps[step].Want {
		want[i] = compile(t, Fill(text, values))
	}
	limit := time.After(r.Class.Limit())
	for {
		views, more := w.views(r.PodName(), cursor) // all of them again: an event comes later than what it is about, and would skip versions
		var missing []string
		for i := range views {
			missing = missing[:0]
			for _, s := range want {
				if is, saw := s.Is(&views[i]); !is {
					missing = append(missing, fmt.Sprintf("%q: %s", s.Text, saw))
				}
			}
			if len(missing) == 0 {
				return cursor + i, nil
			}
		}
		select {
		case <-more:
		case <-limit:
			return 0, fmt.Errorf("step %d (%s) after %v, what is missing of the newest version:\n  %s\nevents:\n  %s", step+1, r.Steps[step].Do.Verb, r.Class.Limit(), strings.Join(missing, "\n  "), w.eventsOf(r.PodName())+"\nhistory:\n  "+w.historyOf(r.PodName()))
		}
	}
}

func (w *world) eventsOf(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for i := range w.events[name] {
		e := &w.events[name][i]
		out = append(out, e.Type+" "+e.Reason+": "+e.Message)
	}
	return strings.Join(slices.Compact(out), "\n  ")
}

// historyOf is a line for each version of a pod that the API has shown.
func (w *world) historyOf(name string) string {
	views, _ := w.views(name, 0)
	var out []string
	for i := range views {
		p := views[i].Pod
		line := fmt.Sprintf("%s %s %s", p.ResourceVersion, p.Status.Phase, p.Status.Reason)
		for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses} {
			for j := range list {
				line += " [" + Describe(&list[j]) + "]"
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n  ")
}

// do carries out an action through the Kubernetes API.
func (w *world) do(t *testing.T, r *Row, a Action, values map[string]string) {
	t.Helper()
	pods, name, doc := w.cluster.Core.CoreV1().Pods(namespace), r.PodName(), Fill(a.Arg, values)
	var err error
	switch a.Verb {
	case "create":
		row := *r
		row.Spec = a.Arg
		var pod *corev1.Pod
		if pod, err = row.Pod(namespace, values); err == nil {
			_, err = pods.Create(t.Context(), pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		}
	case "apply":
		w.apply(t, doc)
	case "delete":
		options := metav1.DeleteOptions{}
		if doc != "" {
			var n int64
			if _, err := fmt.Sscan(doc, &n); err != nil {
				t.Fatal(err)
			}
			options.GracePeriodSeconds = &n
		}
		err = pods.Delete(t.Context(), name, options)
	case "patch":
		_, err = pods.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(doc), metav1.PatchOptions{})
	case "status", "resize", "ephemeralcontainers":
		_, err = pods.Patch(t.Context(), name, types.StrategicMergePatchType, []byte(doc), metav1.PatchOptions{}, a.Verb)
	default:
		err = errors.New("no such action")
	}
	if err != nil {
		t.Fatalf("%s: %v", a.Verb, err)
	}
}

// apply creates or replaces objects other than pods.
func (w *world) apply(t *testing.T, docs string) {
	t.Helper()
	objects, err := Documents(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		resource, err := ResourceOf(o)
		if err != nil {
			t.Fatal(err)
		}
		var to dynamic.ResourceInterface = w.cluster.Dynamic.Resource(resource.GVR)
		if resource.Namespaced {
			to = w.cluster.Dynamic.Resource(resource.GVR).Namespace(namespace)
		}
		_, err = to.Create(t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if apierrors.IsAlreadyExists(err) {
			_, err = to.Update(t.Context(), o, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
		}
		if err != nil {
			t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}
