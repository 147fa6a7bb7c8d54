//go:build integration

package pods_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
	"github.com/skerry/skerry/hil-tests/rig/containerd"
	"github.com/skerry/skerry/hil-tests/rig/images"
)

// logSize is after how many bytes logs are rotated.
const logSize = 128 << 10

// world is a node: a containerd, a registry, and a manager that can be restarted.
type world struct {
	rt      *containerd.Runtime
	runtime string // containerd or cri-o
	reg     *images.Registry
	dir     string
	stop    func()
	t       *testing.T // of the running test

	full atomic.Bool // the disk with the images is

	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	watches []*watch
	reports map[wire.Key][]byte
	events  []string
}

type watch struct {
	kinds []wire.Kind
	c     chan struct{}
}

func (w *watch) C() <-chan struct{} { return w.c }
func (w *watch) Take() []wire.Key   { return nil }
func (w *watch) Close()             {}

func newWorld(t *testing.T, o containerd.Options) *world {
	t.Helper()
	dir := t.TempDir()
	reg, err := images.Start(t.Context(), images.Options{ModuleDir: "../..", BuildDir: filepath.Join(dir, "images")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	o.Dir, o.SandboxImage = filepath.Join(dir, "containerd"), reg.PauseImage()
	rt, err := containerd.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w := &world{rt: rt, runtime: "containerd", reg: reg, dir: dir, t: t, objects: map[wire.Key]wire.Object{}, reports: map[wire.Key][]byte{}}
	if o.CRIO != "" {
		w.runtime = "cri-o"
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// podPids is how many processes and threads a pod of the tests may have.
const podPids = 150

func (w *world) start() {
	m, err := pods.New(pods.Options{
		Node: "gw-1", Runtime: w.rt.Client(), Socket: w.rt.Socket(), Desired: w, Watch: w.watch, Reports: w, Events: w,
		Dir: filepath.Join(w.dir, "pods"), LogDir: filepath.Join(w.dir, "logs"), LogSize: logSize, ImagePeriod: time.Second,
		DiskUsage: func(string) (total, free int64, err error) {
			if w.full.Load() {
				return 100, 1, nil
			}
			return 100, 50, nil
		}, CgroupParent: w.rt.CgroupParent(), NodeIP: "127.0.0.1", PodPids: podPids,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
	})
}

func (w *world) watch(kinds ...wire.Kind) pods.Watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := &watch{kinds: kinds, c: make(chan struct{}, 1)}
	w.watches = append(w.watches, n)
	return n
}

func (w *world) Get(key wire.Key) (wire.Object, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.objects[key]
	return o, ok
}

func (w *world) List(kind wire.Kind) (out []wire.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.objects {
		if o.Key.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

func (w *world) set(key wire.Key, o *wire.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o == nil {
		delete(w.objects, key)
	} else {
		w.objects[key] = *o
	}
	for _, n := range w.watches {
		if slices.Contains(n.kinds, key.Kind()) {
			select {
			case n.c <- struct{}{}:
			default:
			}
		}
	}
}

// put makes an object desired; IMAGE stands for the sample image.
func (w *world) put(key wire.Key, doc string) {
	w.t.Helper()
	body, err := canon.FromJSON([]byte(strings.ReplaceAll(doc, "IMAGE", w.reg.Ref("sample:1"))))
	if err != nil {
		w.t.Fatal(err)
	}
	w.set(key, &wire.Object{Key: key, Version: wire.Version{Hash: canon.Hash(body)}, Revision: 1, Body: body})
}

func (w *world) Report(key wire.Key, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports[key] = body
}

func (w *world) Withdraw(key wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.reports, key)
}

func (w *world) Event(ref wire.ObjectRef, eventType, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s %s %s: %s", ref.Name, ref.FieldPath, eventType, reason, message))
}

// report returns the newest report of a pod.
func (w *world) report(key wire.Key) (r corev1.PodReport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.reports[key]; b != nil {
		if _, err := r.UnmarshalMsg(b); err != nil {
			w.t.Fatal(err)
		}
	}
	return r
}

func (w *world) nodeReady() corev1.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	var r corev1.NodeReport
	if b := w.reports["nodes//gw-1"]; b != nil {
		if _, err := r.UnmarshalMsg(b); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, c := range r.Status.Conditions {
		if c.Type == "Ready" {
			return c
		}
	}
	return corev1.Condition{}
}

// await waits until a pod's status fulfils a condition, and returns it.
func (w *world) await(key wire.Key, what string, is func(s *corev1.PodStatus) bool) *corev1.PodStatus {
	w.t.Helper()
	begin := time.Now()
	for {
		s := w.report(key).Status
		if s != nil && is(s) {
			w.t.Logf("%s after %v", what, time.Since(begin).Round(time.Millisecond))
			return s
		}
		if time.Since(begin) > 40*time.Second {
			text, _ := canon.ToJSON(w.reports[key])
			w.t.Fatalf("%s: not within 40 s; status %s\nevents %s", what, text, strings.Join(w.events, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func running(s *corev1.PodStatus) bool {
	return s.Phase == "Running" && s.ContainerStatuses[0].State.Running != nil
}

func waits(reason, message string) func(*corev1.PodStatus) bool {
	return func(s *corev1.PodStatus) bool {
		w := s.ContainerStatuses[0].State.Waiting
		return w != nil && w.Reason == reason && strings.Contains(w.Message, message)
	}
}

// gone waits until a pod was reported as gone, and nothing of it is left.
func (w *world) gone(key wire.Key, within time.Duration) {
	w.t.Helper()
	for begin := time.Now(); !w.report(key).Deleted; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > within {
			w.t.Fatalf("%s is not gone after %v", key, within)
		}
	}
	w.set(key, nil)
	if _, err := os.Stat(filepath.Join(w.dir, "pods", key.UID())); !os.IsNotExist(err) {
		w.t.Errorf("the pod's folder stays: %v", err)
	}
	if dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + w.rt.CgroupParent() + "/pod" + key.UID()); len(dirs) > 0 {
		w.t.Errorf("cgroups stay: %v", dirs)
	}
	if logs, _ := filepath.Glob(filepath.Join(w.dir, "logs", "*"+key.UID())); len(logs) > 0 {
		w.t.Errorf("logs stay: %v", logs)
	}
}

// logged waits until a container's first log has a line with text.
func (w *world) logged(key wire.Key, container, text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "logs", key.Namespace()+"_"+key.Name()+"_"+key.UID(), container, "0.log")
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), text) {
			return
		}
		if time.Since(begin) > 10*time.Second {
			w.t.Fatalf("%q is not in %s after 10 s: %v\n%s", text, path, err, b)
		}
	}
}

// recorded returns the events about a pod.
func (w *world) recorded(pod string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if strings.HasPrefix(e, pod+" ") {
			out = append(out, e)
		}
	}
	return out
}
