//go:build integration

package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestOutage is the demo's second half with an eye on details. Its steps follow each other.
func TestOutage(t *testing.T) {
	remove(t, "pod/steady", "configmap/steady", "device/outage", "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", "outage")
	apply(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: steady, namespace: default}
data: {text: before}
---
apiVersion: v1
kind: Pod
metadata: {name: steady, namespace: default}
spec:
  nodeName: $NODE
  terminationGracePeriodSeconds: 2
  containers: [{name: c, image: $IMAGE, volumeMounts: [{name: config, mountPath: /config}]}]
  volumes: [{name: config, configMap: {name: steady}}]
`)
	awaitPod(t, "steady", 30*time.Second, "is ready", ready)
	valuesGood(t, "outage")
	setDesired(t, "outage", "42")
	quiet(t)
	before := running(t)
	eventsBefore, _ := eventsOf(t, "steady")
	uid := awaitPod(t, "steady", time.Second, "is ready", ready).UID

	if !t.Run("relay stopped", func(t *testing.T) {
		if err := w.StopRelay(); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 10*time.Second, "the agent notices", func() (bool, string) {
			st, err := w.Status(t.Context())
			return err == nil && !st.Link.Connected, fmt.Sprintf("%+v, %v", st.Link, err)
		})
		polled(t)
		sameContainers(t, before)
		contains(t, "skerryd status", statusText(t), "NOT CONNECTED: relay "+w.RelayAt)
	}) {
		t.FailNow()
	}
	t.Run("SIGKILL and adoption", func(t *testing.T) {
		if err := w.KillAgent(); err != nil {
			t.Fatal(err)
		}
		if err := w.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		edgeReady(t, "steady")
		polled(t)
		sameContainers(t, before)
	})
	t.Run("offline start", func(t *testing.T) { offlineStart(t) })
	t.Run("resume", func(t *testing.T) { resume(t, uid) })
	t.Run("no event twice", func(t *testing.T) {
		after, _ := eventsOf(t, "steady")
		want := maps.Clone(eventsBefore)
		for _, reason := range []string{"Pulled", "Created", "Started"} { // of each container that is made, as a kubelet's
			want[reason]++
		}
		if !maps.Equal(after, want) {
			t.Errorf("before the outage %v, after it, with one container made anew, %v", eventsBefore, after)
		}
		if err := w.StopRelay(); err != nil {
			t.Fatal(err)
		}
		if err := w.StartRelay(t.Context()); err != nil {
			t.Fatal(err)
		}
		connected(t)
		time.Sleep(time.Second)
		if again, _ := eventsOf(t, "steady"); !maps.Equal(again, after) {
			t.Errorf("events before the relay's restart %v, after it %v", after, again)
		}
	})
}

// quiet waits until the agent has nothing more to be sent: no commit for a second.
func quiet(t *testing.T) {
	t.Helper()
	last, since := uint64(0), time.Now()
	stacktest.Eventually(t, 30*time.Second, "no commit for a second", func() (bool, string) {
		st, err := w.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		if st.Link.CommitsApplied != last {
			last, since = st.Link.CommitsApplied, time.Now()
		}
		return time.Since(since) > time.Second, fmt.Sprint(last)
	})
}

func sameContainers(t *testing.T, before map[string]string) {
	t.Helper()
	if now := running(t); !maps.Equal(now, before) {
		t.Errorf("containers before %v, now %v", before, now)
	}
}

// polled waits until the device was asked some times more, by its own count.
func polled(t *testing.T) {
	t.Helper()
	before, err := w.modbus.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 10*time.Second, "the device is polled", func() (bool, string) {
		now, err := w.modbus.Requests(t.Context())
		return err == nil && now >= before+4, fmt.Sprintf("%d requests, then %d, %v", before, now, err)
	})
}

func edgeReady(t *testing.T, pod string) {
	t.Helper()
	stacktest.Eventually(t, 20*time.Second, "the agent says that "+pod+" runs", func() (bool, string) {
		st, err := w.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		for _, p := range st.Pods {
			if p.Name == pod {
				return p.Phase == "Running" && p.Ready == "1/1", fmt.Sprintf("%+v", p)
			}
		}
		return false, fmt.Sprintf("%+v", st.Pods)
	})
}

func offlineStart(t *testing.T) {
	if err := w.StopAgent(); err != nil {
		t.Fatal(err)
	}
	removeSandboxes(t)
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	edgeReady(t, "steady")
	polled(t)
	if text := inside(t, "steady", "/sample", "cat", "/config/text"); text != "before" {
		t.Errorf("the volume after the offline start: %q", text)
	}
	st, err := w.Status(t.Context())
	if err != nil || st.Link.Sessions != 0 {
		t.Errorf("sessions with the relay down: %d, %v", st.Link.Sessions, err)
	}
}

// removeSandboxes takes all pods away from the runtime, as a reboot would.
func removeSandboxes(t *testing.T) {
	t.Helper()
	rt := w.Runtime.Client()
	boxes, err := rt.ListPodSandbox(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if err := cmp.Or(rt.StopPodSandbox(t.Context(), b.ID), rt.RemovePodSandbox(t.Context(), b.ID)); err != nil {
			t.Fatal(err)
		}
	}
}

func resume(t *testing.T, uid any) {
	kubectl(t, "patch", "configmap", "steady", "--type=merge", "-p", `{"data":{"text":"after"}}`)
	patchDesired(t, "outage", "77")
	if err := w.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
	connected(t)
	desiredVerified(t, "outage", "77")
	stacktest.Eventually(t, 10*time.Second, "the configMap's new text is in the volume", func() (bool, string) {
		text := inside(t, "steady", "/sample", "cat", "/config/text")
		return text == "after", text
	})
	id := ""
	for name, c := range running(t) {
		if strings.HasPrefix(name, "steady/") {
			id = strings.Fields(c)[0]
		}
	}
	p := awaitPod(t, "steady", 10*time.Second, "shows the container made during the outage", func(p *corev1.Pod) bool {
		return ready(p) && p.Status.ContainerStatuses[0].ContainerID == "containerd://"+id
	})
	if p.UID != uid {
		t.Errorf("the pod is another one: %s, before %s", p.UID, uid)
	}
	st, err := w.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Two objects changed. The Node may change by itself (taints); nothing else may be sent again.
	if n := st.Link.ObjectsReceived; n < 2 || n > 4 || st.Store.Objects <= 4 {
		t.Errorf("%d objects were sent, two changed, %d are held", n, st.Store.Objects)
	}
}
