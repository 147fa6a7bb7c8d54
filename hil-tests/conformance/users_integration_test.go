//go:build integration && containerd2

package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestUserNamespaces: on the node, each pod with hostUsers: false is another user, and stays that one through restarts of its container and of the
// agent, and if the agent has lost what it had kept; once the pod is gone its ids are given again. What the node says of its runtime is the runtime's word.
func TestUserNamespaces(t *testing.T) {
	w := newWorld(t, stack.Options{Runtime2: containerd2(t)})
	node, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), w.Node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(node.Status.RuntimeHandlers, func(h corev1.NodeRuntimeHandler) bool {
		return h.Name == "runc" && h.Features != nil && h.Features.UserNamespaces != nil && *h.Features.UserNamespaces
	}) {
		t.Errorf("status.runtimeHandlers of the node: %+v", node.Status.RuntimeHandlers)
	}
	a, b := w.ownUsers(t, "users-a"), w.ownUsers(t, "users-b")
	firstA, firstB := w.userOf(t, a, 0), w.userOf(t, b, 0)
	if firstA == firstB {
		t.Fatalf("both pods are user %d", firstA)
	}

	restart := func(lose bool) {
		t.Helper()
		if err := w.KillAgent(); err != nil {
			t.Fatal(err)
		}
		if lose {
			if err := os.Remove(filepath.Join(w.AgentData(), "pods", string(a.UID), "userns")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(w.pidOf(t, a), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	restart(false)
	if got := w.userOf(t, a, 1); got != firstA {
		t.Errorf("after a restart of the agent: user %d, was %d", got, firstA)
	}
	restart(true)
	c := w.ownUsers(t, "users-c")
	if got := w.userOf(t, c, 0); got == firstA || got == firstB {
		t.Errorf("the third pod is user %d, and the others are %d and %d", got, firstA, firstB)
	}
	if got := w.userOf(t, a, 2); got != firstA {
		t.Errorf("after the agent had lost its file: user %d, was %d", got, firstA)
	}

	for _, p := range []*corev1.Pod{a, b} {
		w.remove(t, p)
	}
	if got := w.userOf(t, w.ownUsers(t, "users-d"), 0); got != min(firstA, firstB) {
		t.Errorf("ids of pods that are gone are not given again: user %d, they were %d and %d", got, firstA, firstB)
	}
}

// ownUsers makes a pod whose users are not the node's.
func (w *world) ownUsers(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	no, grace := false, int64(1)
	pod, err := w.cluster.Core.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		HostUsers: &no, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "main", Image: w.values["<box>"], Command: []string{"sh", "-c", "sleep 3600 & wait"}}},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// userOf waits until a pod's container runs that has been restarted so often, and returns who its root is on the node.
func (w *world) userOf(t *testing.T, p *corev1.Pod, restarts int32) (first uint32) {
	t.Helper()
	var pid int
	stacktest.Eventually(t, time.Minute, fmt.Sprintf("%s runs, restarted %d times", p.Name, restarts), func() (bool, string) {
		now, err := w.cluster.Core.CoreV1().Pods(namespace).Get(t.Context(), p.Name, metav1.GetOptions{})
		if err != nil || len(now.Status.ContainerStatuses) == 0 {
			return false, fmt.Sprint("no status ", err)
		}
		s := now.Status.ContainerStatuses[0]
		if s.State.Running == nil || s.RestartCount != restarts {
			return false, Describe(&s)
		}
		pid = w.pidOf(t, p)
		return pid > 0, "no process"
	})
	for _, name := range []string{"uid_map", "gid_map"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		var inside, outside, count uint32
		if _, err := fmt.Sscan(string(text), &inside, &outside, &count); err != nil || inside != 0 || outside < 65536 || count != 65536 || first != 0 && outside != first {
			t.Fatalf("%s of %s: %s (%v)", name, p.Name, text, err)
		}
		first = outside
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if want := fmt.Sprintf("\nUid:\t%d\t", first); err != nil || !strings.Contains(string(status), want) {
		t.Fatalf("the node sees other users than %q (%v):\n%s", want, err, status)
	}
	return first
}

// pidOf returns the first process of the newest container of a pod, as the node counts; 0 if none runs.
func (w *world) pidOf(t *testing.T, p *corev1.Pod) int {
	t.Helper()
	list, err := w.Runtime.Client().ListContainers(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].Labels["io.kubernetes.pod.uid"] != string(p.UID) {
			continue
		}
		s, err := w.Runtime.Client().ContainerStatus(t.Context(), list[i].ID, true)
		if err != nil {
			continue
		}
		var info struct{ PID int }
		if err := json.Unmarshal([]byte(s.Info["info"]), &info); err != nil {
			t.Fatal(err)
		}
		if info.PID > 0 && s.Status.FinishedAt == 0 {
			return info.PID
		}
	}
	return 0
}

// remove deletes a pod and waits until it is gone.
func (w *world) remove(t *testing.T, p *corev1.Pod) {
	t.Helper()
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	if err := pods.Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, p.Name+" is gone", func() (bool, string) {
		_, err := pods.Get(t.Context(), p.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), fmt.Sprint(err)
	})
}
