//go:build integration

package chaos_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/leaks"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// TestCycles creates and deletes pods, and holds that the agent's goroutines and files, and everything on the node, are afterwards what they were.
// Memory is measured, not held: skerry-bench pods has the figure.
func TestCycles(t *testing.T) {
	together(t)
	cycles := 20
	if s := os.Getenv("CHAOS_CYCLES"); s != "" {
		var err error
		if cycles, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t)
	w.cycle(5) // what is made once, such as connections, is made
	rest := func() (leaks.Census, leaks.Process, int) {
		t.Helper()
		time.Sleep(5 * time.Second)
		census, err := leaks.Take(t.Context(), w.Stack)
		if err != nil {
			t.Fatal(err)
		}
		process, err := leaks.Measure(w.Agent)
		if err != nil {
			t.Fatal(err)
		}
		n, err := stack.Goroutines(t.Context(), w.AgentWeb)
		if err != nil {
			t.Fatal(err)
		}
		return census, process, n
	}
	before, process, goroutines := rest()
	for done := 0; done < cycles; done += 10 {
		w.cycle(min(10, cycles-done))
	}
	w.noLeaks(before)
	w.eventually(time.Minute, "the agent holds what it held", func() error {
		_, now, n := rest()
		t.Logf("after %d pods: %d files (%d before), %d goroutines (%d), %.1f MB PSS (%.1f)", cycles, now.Files, process.Files, n, goroutines, float64(now.PSS)/1e6, float64(process.PSS)/1e6)
		// A connection more or less is none of a pod: what every pod left behind would be many.
		if now.Files > process.Files+3 || n > goroutines {
			return fmt.Errorf("%d files, before %d; %d goroutines, before %d", now.Files, process.Files, n, goroutines)
		}
		return nil
	})
}

// cycle creates n pods, waits until they run, deletes them, and waits until they are gone.
func (w *world) cycle(n int) {
	w.t.Helper()
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	for range n {
		w.n++
		name := fmt.Sprintf("cycle-%d", w.n)
		if _, err := pods.Create(w.t.Context(), w.pod(name), metav1.CreateOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.eventually(2*time.Minute, "the pods run", func() error {
		list, err := pods.List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=chaos"})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if list.Items[i].Status.Phase != corev1.PodRunning {
				return fmt.Errorf("%s is %s", list.Items[i].Name, list.Items[i].Status.Phase)
			}
		}
		return nil
	})
	w.clear()
}
