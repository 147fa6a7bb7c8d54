//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/hil-tests/rig/leaks"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const namespace = "default"

// most is how many pods are wanted at a time at most.
const most = 10

// wanted is what the test knows about a pod that it wants.
type wanted struct {
	image   string
	changes int32  // of the image
	id      string // of the container when it was first seen to run; "" before, and once the image was changed
}

// world is a node under attack.
type world struct {
	*stack.Stack
	t       *testing.T
	cluster *stack.Cluster
	r       *rand.Rand
	want    map[string]*wanted
	n       int // pods made so far
	kills   int

	evictions int // of wanted pods in this part, because the disk was full
}

func newWorld(t *testing.T) *world {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("CHAOS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("CHAOS_SEED=%d", seed)
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 0)), want: map[string]*wanted{}}
	w.Stack = stacktest.Start(t, stack.Options{})
	var err error
	if w.cluster, err = w.Cluster(); err != nil {
		t.Fatal(err)
	}
	// The agent's data is on a small file system of its own, which one part fills up. Stack.Stop unmounts it.
	if err := os.MkdirAll(w.AgentData(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", w.AgentData(), "tmpfs", 0, "size=24m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{w.StartRelay, w.Join, w.soonOver, w.StartAgent} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually(time.Minute, "the node is Ready and the namespace has its service account", func() error {
		if status, message, err := w.cluster.NodeReady(t.Context(), w.Node); err != nil || status != corev1.ConditionTrue {
			return fmt.Errorf("%s %w", message, err)
		}
		_, err := w.cluster.Core.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return w
}

// soonOver lets the node be without pressure soon after its disk has room again, not after five minutes: until then no pod is scheduled to it. What the
// runtime has lost is removed soon, too.
func (w *world) soonOver(context.Context) error {
	return w.WriteAgentConfig(func(doc map[string]any) {
		if node, ok := doc["node"].(map[string]any); ok {
			node["eviction"] = map[string]any{"pressureTransitionPeriod": "5s"}
		}
		if runtime, ok := doc["runtime"].(map[string]any); ok {
			runtime["lostAfter"] = "20s"
		}
	})
}

// together lets the tests run at the same time, each with a system of its own, unless they are to run for long.
func together(t *testing.T) {
	if os.Getenv("CHAOS") == "" {
		t.Parallel()
	}
}

// TestChaos runs the parts one after the other on one node.
func TestChaos(t *testing.T) {
	together(t)
	w := newWorld(t)
	part := 15 * time.Second
	if s := os.Getenv("CHAOS"); s != "" {
		var err error
		if part, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	before, err := leaks.Take(t.Context(), w.Stack)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func() error { return nil }
	for _, c := range []struct {
		name               string
		begin, strike, end func() error
	}{
		{"agent", nothing, w.killAgent, nothing},
		{"containerd", nothing, w.killRuntime, nothing},
		{"both", nothing, w.killBoth, nothing},
		{"full disk", nothing, w.fillDisk, nothing},
		{"clock", w.withClock, w.stepClock, w.rightClock},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t, w.kills, w.evictions = t, 0, 0
			if err := c.begin(); err != nil {
				t.Fatal(err)
			}
			w.storm(part, c.strike)
			if err := c.end(); err != nil {
				t.Fatal(err)
			}
			w.converge()
			w.clear()
			w.noLeaks(before)
			t.Logf("%d strikes, %d pods made so far, %d evicted", w.kills, w.n, w.evictions)
			if c.name != "full disk" && w.evictions > 0 {
				t.Errorf("%d pods were evicted though there was room", w.evictions)
			}
		})
	}
	w.t = t
}

// storm changes what is wanted, and strikes every two to five seconds.
func (w *world) storm(d time.Duration, strike func() error) {
	w.t.Helper()
	next := time.Now().Add(2 * time.Second)
	for end := time.Now().Add(d); time.Now().Before(end); {
		w.change()
		w.note()
		if time.Now().After(next) {
			if err := strike(); err != nil {
				w.t.Fatal(err)
			}
			w.kills++
			next = time.Now().Add(2*time.Second + time.Duration(w.r.Int64N(int64(3*time.Second))))
		}
		time.Sleep(time.Duration(w.r.Int64N(int64(400 * time.Millisecond))))
	}
}

// change makes, alters or deletes one pod.
func (w *world) change() {
	w.t.Helper()
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	some := ""
	for name := range w.want { // any: the order of maps is part of the dice
		some = name
		break
	}
	var err error
	switch n := w.r.IntN(10); {
	case some == "" || n < 5 && len(w.want) < most:
		w.n++
		name := fmt.Sprintf("chaos-%d", w.n)
		_, err = pods.Create(w.t.Context(), w.pod(name), metav1.CreateOptions{})
		w.want[name] = &wanted{image: w.Images.Ref("sample:1")}
	case n < 7:
		p := w.want[some]
		p.changes, p.id = p.changes+1, ""
		p.image = w.Images.Ref(fmt.Sprintf("sample:%d", 1+p.changes%2))
		_, err = pods.Patch(w.t.Context(), some, types.StrategicMergePatchType, fmt.Appendf(nil, `{"spec":{"containers":[{"name":"main","image":%q}]}}`, p.image), metav1.PatchOptions{})
	default:
		grace := w.r.Int64N(3)
		delete(w.want, some)
		err = pods.Delete(w.t.Context(), some, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
}

// pod has volumes of the kinds that leave mounts behind if they leak.
func (w *world) pod(name string) *corev1.Pod {
	no, grace := false, int64(2)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": "chaos"}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name: "main", Image: w.Images.Ref("sample:1"), Args: []string{"sleep"},
				VolumeMounts: []corev1.VolumeMount{{Name: "disk", MountPath: "/disk"}, {Name: "mem", MountPath: "/mem"}, {Name: "mem", MountPath: "/part", SubPath: "part"}, {Name: "self", MountPath: "/self"}},
			}},
			Volumes: []corev1.Volume{
				{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				{Name: "mem", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
				{Name: "self", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}},
			},
		},
	}
}

// note remembers which containers have been seen to run.
func (w *world) note() {
	w.t.Helper()
	list, err := w.cluster.Core.CoreV1().Pods(namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=chaos"})
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list.Items {
		p := w.want[list.Items[i].Name]
		if p == nil || len(list.Items[i].Status.ContainerStatuses) == 0 {
			continue
		}
		switch s := list.Items[i].Status.ContainerStatuses[0]; {
		case p.changes > 0 || s.State.Running == nil:
		case p.id == "":
			p.id = s.ContainerID
		case p.id != s.ContainerID:
			w.t.Errorf("pod %s was not changed, but its container was replaced: %s, now %s, restarts %d, last state %+v", list.Items[i].Name, p.id, s.ContainerID, s.RestartCount, s.LastTerminationState.Terminated)
			p.id = s.ContainerID
		}
	}
}

func (w *world) killAgent() error { return errors.Join(w.KillAgent(), w.StartAgent(w.t.Context())) }

func (w *world) killRuntime() error {
	return errors.Join(w.Runtime.Kill(), w.Runtime.Restart(w.t.Context()))
}

func (w *world) killBoth() error {
	return errors.Join(w.KillAgent(), w.Runtime.Kill(), w.Runtime.Restart(w.t.Context()), w.StartAgent(w.t.Context()))
}

// fillDisk fills the file system of the agent's data, kills the agent every other time, and makes room again.
func (w *world) fillDisk() error {
	path := filepath.Join(w.AgentData(), "ballast")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	for range 4 {
		w.change()
		time.Sleep(300 * time.Millisecond)
	}
	if w.r.IntN(2) == 0 {
		err = w.KillAgent()
	} else {
		err = nil
	}
	err = errors.Join(err, f.Close(), os.Remove(path))
	if w.Agent == nil {
		err = errors.Join(err, w.StartAgent(w.t.Context()))
	}
	return err
}

// converge waits until what runs is what is wanted, and holds that nothing was restarted needlessly.
func (w *world) converge() {
	w.t.Helper()
	w.eventually(3*time.Minute, "what runs is what is wanted", func() error {
		list, err := w.cluster.Core.CoreV1().Pods(namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=chaos"})
		if err != nil {
			return err
		}
		list.Items = slices.DeleteFunc(list.Items, w.evicted)
		if len(list.Items) != len(w.want) {
			return fmt.Errorf("%d pods, %d are wanted", len(list.Items), len(w.want))
		}
		for i := range list.Items {
			p := &list.Items[i]
			if err := w.asWanted(p); err != nil {
				return fmt.Errorf("pod %s: %w", p.Name, err)
			}
		}
		return w.runtimeAgrees(list.Items)
	})
	w.note()
}

// evicted says that the gateway has ended a pod because its disk was full, as it should; nobody makes such a pod again, so it is not wanted any more.
func (w *world) evicted(p corev1.Pod) bool {
	if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "Evicted" {
		return false
	}
	if w.want[p.Name] != nil {
		w.evictions++
		delete(w.want, p.Name)
	}
	return true
}

func (w *world) asWanted(p *corev1.Pod) error {
	want := w.want[p.Name]
	if want == nil {
		return errors.New("is not wanted")
	}
	if p.Status.Phase != corev1.PodRunning || len(p.Status.ContainerStatuses) != 1 || p.Status.ContainerStatuses[0].State.Running == nil {
		return fmt.Errorf("is %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
	}
	s := p.Status.ContainerStatuses[0]
	if s.Image != want.image {
		return fmt.Errorf("runs %s, %s is wanted", s.Image, want.image)
	}
	// A start that a strike cut short counts as one.
	if s.RestartCount > want.changes+int32(w.kills) { //nolint:gosec // few
		return fmt.Errorf("was changed %d times and restarted %d times with %d strikes", want.changes, s.RestartCount, w.kills)
	}
	return nil
}

// runtimeAgrees holds containerd's own list of running containers to the pods.
func (w *world) runtimeAgrees(pods []corev1.Pod) error {
	list, err := w.Runtime.Client().ListContainers(w.t.Context(), nil)
	if err != nil {
		return err
	}
	running := map[string]int{}
	for i := range list {
		if list[i].State == 1 {
			running[list[i].Labels["io.kubernetes.pod.uid"]]++
		}
	}
	for i := range pods {
		if n := running[string(pods[i].UID)]; n != 1 {
			return fmt.Errorf("pod %s has %d running containers in containerd", pods[i].Name, n)
		}
		delete(running, string(pods[i].UID))
	}
	if len(running) > 0 {
		return fmt.Errorf("containers of pods that are gone run: %v", running)
	}
	return nil
}

// clear deletes all pods.
func (w *world) clear() {
	w.t.Helper()
	grace := int64(1)
	pods := w.cluster.Core.CoreV1().Pods(namespace)
	if err := pods.DeleteCollection(w.t.Context(), metav1.DeleteOptions{GracePeriodSeconds: &grace}, metav1.ListOptions{LabelSelector: "app=chaos"}); err != nil {
		w.t.Fatal(err)
	}
	clear(w.want)
	w.eventually(2*time.Minute, "all pods are gone", func() error {
		list, err := pods.List(w.t.Context(), metav1.ListOptions{LabelSelector: "app=chaos"})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d pods are left, such as %s: %+v", len(list.Items), list.Items[0].Name, list.Items[0].Status)
		}
		return err
	})
}

// noLeaks holds that the node is as it was before.
func (w *world) noLeaks(before leaks.Census) {
	w.t.Helper()
	w.eventually(90*time.Second, "nothing is left of the pods", func() error {
		after, err := leaks.Take(w.t.Context(), w.Stack)
		if err != nil {
			return err
		}
		for _, line := range leaks.Diff(before, after) {
			err = errors.Join(err, errors.New(line))
		}
		return err
	})
}

func (w *world) eventually(limit time.Duration, what string, check func() error) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > limit {
			w.t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
	}
}
