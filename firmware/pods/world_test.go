package pods

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// fakeDesired is a desired view in memory.
type fakeDesired struct {
	mu      sync.Mutex
	objects map[wire.Key]wire.Object
	watches []*fakeWatch
}

type fakeWatch struct {
	kinds []wire.Kind
	c     chan struct{}
	taken atomic.Int64
}

func (w *fakeWatch) C() <-chan struct{} { return w.c }
func (w *fakeWatch) Take() []wire.Key   { w.taken.Add(1); return nil }
func (w *fakeWatch) Close()             {}

func (d *fakeDesired) Get(key wire.Key) (wire.Object, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.objects[key]
	return o, ok
}

func (d *fakeDesired) List(kind wire.Kind) (out []wire.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.objects {
		if o.Key.Kind() == kind {
			out = append(out, o)
		}
	}
	return out
}

func (d *fakeDesired) watch(kinds ...wire.Kind) Watch {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &fakeWatch{kinds: kinds, c: make(chan struct{}, 1)}
	d.watches = append(d.watches, w)
	return w
}

func (d *fakeDesired) put(o wire.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects[o.Key] = o
	d.notify(o.Key.Kind())
}

func (d *fakeDesired) remove(key wire.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.objects, key)
	d.notify(key.Kind())
}

func (d *fakeDesired) notify(kind wire.Kind) {
	for _, w := range d.watches {
		if slices.Contains(w.kinds, kind) {
			select {
			case w.c <- struct{}{}:
			default:
			}
		}
	}
}

type fakeEvent struct{ ref, reason, message string }

// world is a manager with all that it needs, inside a synctest bubble.
type world struct {
	t       *testing.T
	rt      *fakeRuntime
	desired *fakeDesired
	o       Options
	m       *Manager
	stop    func()
	log     bytes.Buffer
	logMu   sync.Mutex

	mu      sync.Mutex
	reports map[wire.Key][]byte
	counts  map[wire.Key]int
	events  []fakeEvent

	flushes atomic.Int64
}

func (w *world) Report(key wire.Key, body []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := canon.Check(body); err != nil {
		w.t.Errorf("report of %s is not canonical: %v", key, err)
	}
	w.reports[key] = body
	w.counts[key]++
}

func (w *world) Withdraw(key wire.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.reports, key)
}

func (w *world) Event(ref wire.ObjectRef, _, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fakeEvent{ref: ref.Kind + "/" + ref.Name + " " + ref.FieldPath, reason: reason, message: message})
}

func (w *world) event(reason string) *fakeEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.events {
		if w.events[i].reason == reason {
			return &w.events[i]
		}
	}
	return nil
}

// fakeMachine is a gateway with 2 CPUs, 1 GiB of memory and 8 GiB of disk.
type fakeMachine struct {
	mu     sync.Mutex
	adjust func(*Measurement)
}

func (f *fakeMachine) Measure() (Measurement, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := Measurement{CPUs: 2, Memory: 1 << 30, MemoryAvailable: 1 << 29, Disk: 1 << 33, DiskAvailable: 1 << 32, Inodes: 1000, InodesFree: 900, PIDs: 100, PIDsMax: 32768}
	if f.adjust != nil {
		f.adjust(&v)
	}
	return v, nil
}

func (f *fakeMachine) set(adjust func(*Measurement)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.adjust = adjust
}

type fakeMounter struct {
	mu      sync.Mutex
	busy    string // what cannot be unmounted
	dirs    map[string]int64
	binds   map[string]string // target → what it is, resolved
	private map[string]bool   // by target
}

func (f *fakeMounter) Bind(source, target string, private bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := os.Readlink(source)
	if err != nil {
		return err
	}
	if f.binds == nil {
		f.binds, f.private = map[string]string{}, map[string]bool{}
	}
	f.binds[target], f.private[target] = at, private
	return nil
}

func (f *fakeMounter) Tmpfs(dir string, size int64) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.dirs[dir]
	f.dirs[dir] = size
	return !there, nil
}

func (f *fakeMounter) Below(dir string) (out []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range slices.Concat(slices.Collect(maps.Keys(f.dirs)), slices.Collect(maps.Keys(f.binds)), []string{f.busy}) {
		if strings.HasPrefix(at, dir+"/") {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (f *fakeMounter) Unmount(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy != "" && f.busy == dir {
		return errors.New("unmount " + dir + ": device or resource busy")
	}
	delete(f.dirs, dir)
	delete(f.binds, dir)
	return nil
}

func (w *world) Write(p []byte) (int, error) {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.Write(p)
}

func (w *world) logText() string {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.log.String()
}

// flushDisk counts how often the images were flushed.
func (w *world) flushDisk(path string) error {
	if path != "/images" {
		w.t.Errorf("%s was flushed", path)
	}
	w.flushes.Add(1)
	return nil
}

// simulate runs test in a bubble, with a manager that has been started.
func simulate(t *testing.T, test func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		boot := time.Now()
		w := &world{t: t, rt: newFakeRuntime(), desired: &fakeDesired{objects: map[wire.Key]wire.Object{}},
			reports: map[wire.Key][]byte{}, counts: map[wire.Key]int{}}
		w.o = Options{
			Node: "gw-1", Runtime: w.rt, Socket: "/run/fake.sock", Desired: w.desired, Watch: w.desired.watch, Reports: w, Events: w,
			Dir: filepath.Join(dir, "pods"), LogDir: filepath.Join(dir, "logs"), NodeIP: "192.0.2.7", Machine: new(fakeMachine), ClusterDNS: []string{"10.96.0.10"},
			CgroupRoot: filepath.Join(dir, "cgroup"), Mount: &fakeMounter{dirs: map[string]int64{}}, Version: "v0",
			Log: slog.New(slog.NewTextHandler(w, nil)), DiskUsage: func(string) (int64, int64, error) { return 1000, 500, nil },
			FlushDisk: w.flushDisk, KilledForMemory: func(string) bool { return false },
			Uptime: func() (string, time.Duration) {
				return "this boot", time.Since(boot)
			},
			FileSystem: func(string) (FileSystem, error) {
				return FileSystem{Device: 1, Size: 1000, Available: 500, Inodes: 100, InodesFree: 50}, nil
			},
		}
		w.start()
		defer func() { w.stop() }()
		test(w)
	})
}

// start starts a manager, as after a restart of the agent.
func (w *world) start() {
	m, err := New(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
	w.run()
}

// run runs the manager that there is.
func (w *world) run() {
	m := w.m
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

// settle lets d pass.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const podKey = wire.Key("pods/default/web/u1")

// apply makes a pod desired. doc is its JSON.
func (w *world) apply(doc string) { w.put(podKey, doc) }

func (w *world) put(key wire.Key, doc string) {
	w.t.Helper()
	body, err := canon.FromJSON([]byte(doc))
	if err != nil {
		w.t.Fatal(err)
	}
	w.desired.put(wire.Object{Key: key, Version: wire.Version{UID: key.UID(), Hash: canon.Hash(body)}, Revision: 7, Body: body})
}

// status returns the pod's reported status.
func (w *world) status() *corev1.PodStatus {
	w.t.Helper()
	r := w.report(podKey)
	if r.Status == nil {
		w.t.Fatalf("no status reported; log:\n%s", w.logText())
	}
	return r.Status
}

func (w *world) report(key wire.Key) corev1.PodReport {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var r corev1.PodReport
	if body, ok := w.reports[key]; ok {
		if _, err := r.UnmarshalMsg(body); err != nil {
			w.t.Fatal(err)
		}
	}
	return r
}

func (w *world) count(key wire.Key) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[key]
}

func (w *world) body(key wire.Key) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reports[key]
}

func (w *world) node() corev1.NodeReport {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var r corev1.NodeReport
	if _, err := r.UnmarshalMsg(w.reports["nodes//gw-1"]); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func cond(list []corev1.Condition, kind string) corev1.Condition {
	for _, c := range list {
		if c.Type == kind {
			return c
		}
	}
	return corev1.Condition{}
}

// lastEvent returns the newest event of a reason.
func (w *world) lastEvent(reason string) *fakeEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.events) - 1; i >= 0; i-- {
		if w.events[i].reason == reason {
			return &w.events[i]
		}
	}
	return nil
}
