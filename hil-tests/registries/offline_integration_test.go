//go:build integration

package registries_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// offline: the relay is away and the agent was restarted. An image that is gone is pulled again with the secret from the store; a pod that runs
// an image whose registry is away, too, goes on from what is there.
func (w *world) offline(t *testing.T) {
	w.pushData(t, "evicted", 1000) // another image than the others' by its content, too: they are not to go with it
	w.push(t, "kept:1")
	away := w.serve(t, images.Front{Users: login})
	w.secret(t, "away", map[string]map[string]string{away.Addr(): entry(login["plant"])})
	w.pod(t, "evicted", want{image: w.bearer.Ref("evicted:1"), secrets: []string{"right"}})
	w.pod(t, "kept", want{image: away.Ref("kept:1"), secrets: []string{"away"}, policy: corev1.PullAlways})
	w.runs(t, "evicted")
	w.runs(t, "kept")
	if err := w.StopRelay(); err != nil {
		t.Fatal(err)
	}
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	rt := w.Runtime.Client()
	if err := rt.RemoveImage(t.Context(), &cri.ImageSpec{Image: w.bearer.Ref("evicted:1")}); err != nil {
		t.Fatal(err)
	}
	asked := w.bearer.Requests("evicted:1")
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"evicted", "kept"} {
		if err := rt.StopContainer(t.Context(), w.container(t, pod, 0), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, pod := range []string{"evicted", "kept"} {
		stacktest.Eventually(t, 30*time.Second, pod+" runs again", func() (bool, string) { id := w.container(t, pod, 1); return id != "", id })
	}
	if w.bearer.Requests("evicted:1") == asked {
		t.Error("the image was not pulled again")
	}
	if err := w.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"evicted", "kept"} {
		w.await(t, pod, "has restarted once", func(s *corev1.ContainerStatus) bool { return s.RestartCount == 1 && s.State.Running != nil })
	}
	// With whose secret the image was pulled is known after the restart, too; its registry is still away.
	w.pod(t, "kept-same", want{image: away.Ref("kept:1"), secrets: []string{"away"}})
	w.pod(t, "kept-thief", want{image: away.Ref("kept:1")})
	w.runs(t, "kept-same")
	w.waits(t, "kept-thief", failed, "connection refused")
}

// container returns the id of a pod's container that runs as its n-th restart; empty if there is none.
func (w *world) container(t *testing.T, pod string, n uint32) string {
	t.Helper()
	list, err := w.Runtime.Client().ListContainers(t.Context(), &cri.ContainerFilter{
		State: new(cri.ContainerRunning), LabelSelector: map[string]string{"io.kubernetes.pod.name": pod},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Metadata.Attempt == n {
			return c.ID
		}
	}
	return ""
}
