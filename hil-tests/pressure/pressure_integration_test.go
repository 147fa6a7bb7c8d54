//go:build integration

package pressure_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	namespace = "default"
	mib       = 1 << 20

	memoryLimit = 500 * mib // of all pods together
	memoryLeast = 250 * mib // available
	pidsLimit   = 400
	pidsLeast   = 200
	diskSize    = 300 * mib
	diskLeast   = 60 * mib
)

// world is a gateway whose pods have little.
type world struct {
	*stack.Stack
	t       *testing.T
	cluster *stack.Cluster
	disk    string // where pods' volumes and images are
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, disk: filepath.Join(dir, "containerd")}
	if err := os.MkdirAll(w.disk, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", w.disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0711", diskSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(w.disk, unix.MNT_DETACH) }) // the stack has done so, if it ended well
	w.Stack = stacktest.Start(t, stack.Options{Dir: dir})
	var err error
	if w.cluster, err = w.Cluster(); err != nil {
		t.Fatal(err)
	}
	w.limit("memory", "memory.max", "memory.limit_in_bytes", memoryLimit)
	w.limit("pids", "pids.max", "pids.max", pidsLimit)
	configure := func(doc map[string]any) {
		node, _ := doc["node"].(map[string]any)
		node["eviction"] = map[string]any{
			"pressureTransitionPeriod": "2s",
			"hard": map[string]any{
				"memory.available": strconv.Itoa(memoryLeast), "pid.available": strconv.Itoa(pidsLeast), "nodefs.available": strconv.Itoa(diskLeast),
				"nodefs.inodesFree": "0", "imagefs.available": "0", "imagefs.inodesFree": "0",
			},
		}
		pods, _ := doc["pods"].(map[string]any)
		pods["rootDir"] = filepath.Join(w.disk, "pods")
	}
	if err := w.StartRelay(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteAgentConfig(configure); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, time.Minute, "the node is Ready, and has what its pods may have", func() (bool, string) {
		n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), w.Node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		_, err = w.cluster.Core.CoreV1().ServiceAccounts(namespace).Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil && nodeCondition(n, corev1.NodeReady) == corev1.ConditionTrue && n.Status.Capacity.Memory().Value() == memoryLimit, fmt.Sprintf("%v %v", n.Status.Capacity, n.Status.Conditions)
	})
	return w
}

// limit gives the group of all pods a limit, in whichever version of cgroups the machine has.
func (w *world) limit(controller, v2, v1 string, value int64) {
	w.t.Helper()
	const root = "/sys/fs/cgroup"
	dir, file := filepath.Join(root, controller), v1
	if enabled(root, controller) {
		dir, file = root, v2
	}
	group := filepath.Join(dir, w.Runtime.CgroupParent())
	if err := os.MkdirAll(group, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(value, 10)), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func enabled(root, controller string) bool {
	b, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
	return err == nil && strings.Contains(string(b), controller)
}

func nodeCondition(n *corev1.Node, kind corev1.NodeConditionType) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// pod makes a pod with a volume on the small disk. request is of memory; none makes it best effort.
func (w *world) pod(name, image, request string, args ...string) {
	w.t.Helper()
	no, grace := false, int64(1)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace, RestartPolicy: corev1.RestartPolicyNever,
		// The taints of the tests themselves must not keep the next pod away.
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:  []corev1.Container{{Name: "main", Image: w.Images.Ref(image), Args: args, VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
		Volumes:     []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	}}
	if request != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(request)}
	}
	if _, err := w.cluster.Core.CoreV1().Pods(namespace).Create(w.t.Context(), p, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// await waits until a pod is in a phase.
func (w *world) await(name string, phase corev1.PodPhase) (pod *corev1.Pod) {
	w.t.Helper()
	stacktest.Eventually(w.t, time.Minute, "pod "+name+" is "+string(phase), func() (bool, string) {
		p, err := w.cluster.Core.CoreV1().Pods(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		pod = p
		return p.Status.Phase == phase, fmt.Sprintf("%+v", p.Status)
	})
	return pod
}

// evicted holds what an eviction looks like, and that it is over soon: the pod, the node's condition, and the taint that Kubernetes makes of that.
func (w *world) evicted(name string, condition corev1.NodeConditionType, taint, words string) {
	w.t.Helper()
	core, sawCondition, sawTaint := w.cluster.Core.CoreV1(), false, false
	stacktest.Eventually(w.t, time.Minute, "pod "+name+" is evicted, the node has "+string(condition)+" and the taint", func() (bool, string) {
		n, err := core.Nodes().Get(w.t.Context(), w.Node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		sawCondition = sawCondition || nodeCondition(n, condition) == corev1.ConditionTrue
		sawTaint = sawTaint || hasTaint(n, taint)
		p, err := core.Pods(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
		return err == nil && p.Status.Phase == corev1.PodFailed && sawCondition && sawTaint, fmt.Sprintf("condition seen %v, taint seen %v, pod %s %s", sawCondition, sawTaint, p.Status.Phase, p.Status.Reason)
	})
	p := w.await(name, corev1.PodFailed)
	if p.Status.Reason != "Evicted" || !strings.Contains(p.Status.Message, words) {
		w.t.Errorf("%s: %s, want %q", p.Status.Reason, p.Status.Message, words)
	}
	disrupted := false
	for _, c := range p.Status.Conditions {
		disrupted = disrupted || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonTerminationByKubelet
	}
	if !disrupted {
		w.t.Errorf("conditions %+v", p.Status.Conditions)
	}
	stacktest.Eventually(w.t, time.Minute, "the node has recovered", func() (bool, string) {
		n, err := core.Nodes().Get(w.t.Context(), w.Node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		return nodeCondition(n, condition) == corev1.ConditionFalse && !hasTaint(n, taint), fmt.Sprintf("%v %v", n.Status.Conditions, n.Spec.Taints)
	})
}

func hasTaint(n *corev1.Node, key string) bool {
	for _, t := range n.Spec.Taints {
		if t.Key == key {
			return true
		}
	}
	return false
}

// undisturbed holds that a pod runs as it did.
func (w *world) undisturbed(names ...string) {
	w.t.Helper()
	for _, name := range names {
		p, err := w.cluster.Core.CoreV1().Pods(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		if p.Status.Phase != corev1.PodRunning || p.Status.ContainerStatuses[0].RestartCount != 0 {
			w.t.Errorf("pod %s is %s %s, %+v", name, p.Status.Phase, p.Status.Reason, p.Status.ContainerStatuses)
		}
	}
}

func (w *world) free() int64 {
	w.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(w.disk, &st); err != nil {
		w.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize //nolint:gosec // small
}

// fill writes into a pod's volume until so much is free on the disk.
func (w *world) fill(p *corev1.Pod, file string, free int64) {
	w.t.Helper()
	n := w.free() - free
	if n <= 0 {
		w.t.Fatalf("%d bytes are free, fewer than %d", w.free(), free)
	}
	path := filepath.Join(w.disk, "pods", string(p.UID), "volumes", "kubernetes.io~empty-dir", "data", file)
	if err := os.WriteFile(path, make([]byte, n), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// images returns the names of the images that the runtime has.
func (w *world) images() (names []string) {
	w.t.Helper()
	list, err := w.Runtime.Client().ListImages(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range list {
		names = append(names, list[i].RepoTags...)
	}
	return names
}

// ballast is an image that is 24 MB large and runs as sample.
func (w *world) ballast() {
	w.t.Helper()
	program, err := os.ReadFile(filepath.Join(w.Module, "build", "images", runtime.GOARCH, "sample"))
	if err != nil {
		w.t.Fatal(err)
	}
	path, more := filepath.Join(w.t.TempDir(), "sample"), make([]byte, 24*mib)
	if _, err := rand.Read(more); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, append(program, more...), 0o755); err != nil {
		w.t.Fatal(err)
	}
	image, err := images.FromBinary(path, runtime.GOARCH)
	if err == nil {
		err = w.Images.Push(w.t.Context(), "ballast:1", image)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestPressure runs one kind of want after the other on one node. Pods that must survive them all are there from the beginning.
func TestPressure(t *testing.T) {
	w := newWorld(t)
	w.pod("within", "sample:1", "120Mi", "memhog", "40")
	w.pod("over", "sample:1", "10Mi", "memhog", "30")
	w.ballast()
	w.pod("spare", "ballast:1", "", "exit", "0")
	for _, name := range []string{"within", "over"} {
		w.await(name, corev1.PodRunning)
	}
	w.await("spare", corev1.PodSucceeded)
	if err := w.cluster.Core.CoreV1().Pods(namespace).Delete(t.Context(), "spare", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone := func() (bool, string) {
		_, err := w.cluster.Core.CoreV1().Pods(namespace).Get(t.Context(), "spare", metav1.GetOptions{})
		return apierrors.IsNotFound(err), fmt.Sprint(err)
	}
	stacktest.Eventually(t, time.Minute, "the pod that leaves an image behind is gone", gone)
	// An image that was pulled just now is spared, as at a kubelet: it was there at the last look at the images, which are five minutes apart, or at the
	// agent's start.
	if err := errors.Join(w.StopAgent(), w.StartAgent(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name string
		run  func()
	}{{"memory", w.memory}, {"disk", w.fullDisk}, {"process ids", w.processes}} {
		t.Run(part.name, func(t *testing.T) {
			w.t = t
			part.run()
			w.undisturbed("within", "over")
		})
	}
	w.t = t
}

func (w *world) memory() {
	w.pod("hog", "sample:1", "", "memhog", "220")
	w.evicted("hog", corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure, "The node was low on resource: memory. Threshold quantity: 250Mi, available: ")
}

func (w *world) fullDisk() {
	w.pod("filler", "sample:1", "", "sleep")
	p := w.await("filler", corev1.PodRunning)
	ballast := func() bool {
		for _, name := range w.images() {
			if strings.HasSuffix(name, "/ballast:1") {
				return true
			}
		}
		return false
	}
	if !ballast() {
		w.t.Fatalf("there is no image without use: %v", w.images())
	}
	w.fill(p, "some", diskLeast-mib)
	stacktest.Eventually(w.t, time.Minute, "the image without use is gone, and there is room", func() (bool, string) {
		return !ballast() && w.free() > diskLeast, fmt.Sprint(w.images(), w.free())
	})
	w.undisturbed("filler")
	w.fill(p, "more", diskLeast-20*mib)
	w.evicted("filler", corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure, "The node was low on resource: ephemeral-storage. Threshold quantity: 60Mi, available: ")
	if free := w.free(); free < 2*diskLeast {
		w.t.Errorf("%d bytes are free: the volumes of the evicted pod are still there", free)
	}
}

func (w *world) processes() {
	w.pod("forker", "sample:1", "", "procs", "55")
	w.evicted("forker", corev1.NodePIDPressure, corev1.TaintNodePIDPressure, "The node was low on resource: pids. Threshold quantity: 200, available: ")
}
