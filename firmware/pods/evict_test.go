package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/wire"
)

func (w *world) machine() *fakeMachine { return w.o.Machine.(*fakeMachine) }

// memoryLeft sets how much memory is left, in MiB of 1024.
func (w *world) memoryLeft(mib int64) {
	w.machine().set(func(v *Measurement) { v.MemoryAvailable = mib << 20 })
}

// threePods runs a pod that keeps to its request, one that does not, and a critical one that is worse.
func (w *world) threePods() {
	w.rt.mu.Lock()
	w.rt.uses = map[string]uint64{"good": 50 << 20, "hog": 400 << 20, "vital": 900 << 20}
	w.rt.layer = map[string]uint64{}
	w.rt.mu.Unlock()
	for name, extra := range map[string]string{"good": `"resources":{"requests":{"memory":"100Mi"}}`, "hog": `"resources":{"requests":{"memory":"64Mi"}}`, "vital": `"workingDir":""`} {
		priority := "0"
		if name == "vital" {
			priority = "2000001000"
		}
		w.put(wire.Key("pods/default/"+name+"/u-"+name), `{"metadata":{"name":"`+name+`","namespace":"default","uid":"u-`+name+`"},"spec":{"priority":`+priority+
			`,"containers":[{"name":"`+name+`","image":"app:1",`+extra+`}]}}`)
	}
	w.settle(5 * time.Second)
}

func (w *world) phase(name string) string {
	w.t.Helper()
	return w.report(wire.Key("pods/default/" + name + "/u-" + name)).Status.Phase
}

// TestEviction: when memory runs short the pod that uses more than it asked for goes, and only that one while it ends.
func TestEviction(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["hog"] = func(uint32) run { return run{dies: time.Hour} }
		w.threePods()
		w.memoryLeft(40) // less than 5 % of 1024
		w.settle(6 * time.Second)
		w.memoryLeft(500)
		w.settle(5 * time.Second)
		s := w.report("pods/default/hog/u-hog").Status
		want := "The node was low on resource: memory. Threshold quantity: 53687091, available: 40Mi. Container hog was using 400Mi, request is 64Mi, has larger consumption of memory. "
		if s.Phase != phaseFailed || s.Reason != reasonEvicted || s.Message != want || cond(s.Conditions, condDisruption).Reason != reasonByNode {
			t.Errorf("status %+v", s)
		}
		if got := w.rt.stopped(); len(got) != 1 || got[0] != minGrace*time.Second {
			t.Errorf("stopped with %v", got)
		}
		c := cond(w.node().Status.Conditions, "MemoryPressure")
		if c.Status != "True" || c.Reason != "KubeletHasInsufficientMemory" || !strings.Contains(c.Message, "memory.available is or was just now below 5%") {
			t.Errorf("condition %+v", c)
		}
		if e := w.event("EvictionThresholdMet"); e == nil || e.ref != "Node/gw-1 " || e.message != "Attempting to reclaim memory" {
			t.Errorf("event %+v", e)
		}
		w.settle(time.Minute)
		if w.phase("good") != phaseRunning || w.phase("vital") != phaseRunning {
			t.Error("more pods were evicted than needed")
		}
		if c := cond(w.node().Status.Conditions, "MemoryPressure"); c.Status != "True" {
			t.Error("the condition is over before its transition period")
		}
		w.settle(5 * time.Minute)
		if c := cond(w.node().Status.Conditions, "MemoryPressure"); c.Status != "False" {
			t.Errorf("condition %+v", c)
		}
	})
}

// TestEvictionSparesCritical: critical pods stay even if nothing else is left, and the log says so.
func TestEvictionSparesCritical(t *testing.T) {
	simulate(t, func(w *world) {
		w.threePods()
		w.memoryLeft(10)
		w.settle(2 * time.Minute)
		if w.phase("hog") != phaseFailed || w.phase("good") != phaseFailed || w.phase("vital") != phaseRunning {
			t.Errorf("hog %s, good %s, vital %s", w.phase("hog"), w.phase("good"), w.phase("vital"))
		}
		if n := strings.Count(w.logText(), "no pod is left that may be evicted"); n != 1 {
			t.Errorf("said %d times that nothing is left", n)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		told := 0
		for _, e := range w.events {
			if e.reason == "EvictionThresholdMet" {
				told++
			}
		}
		if told != 1 {
			t.Errorf("%d events of the node in two minutes", told)
		}
	})
}

// TestSoftEviction: a soft threshold waits for its grace period, and pods get time to end.
func TestSoftEviction(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		rules, err := eviction.Rules{Soft: map[string]string{"memory.available": "200Mi"}, Grace: map[string]time.Duration{"memory.available": time.Minute}}.Parse()
		if err != nil {
			t.Fatal(err)
		}
		w.o.Eviction = Eviction{Thresholds: rules, MaxGrace: 7}
		w.start()
		w.threePods()
		w.memoryLeft(100)
		w.settle(50 * time.Second)
		if w.phase("hog") != phaseRunning || cond(w.node().Status.Conditions, "MemoryPressure").Status != "True" {
			t.Error("no pressure, or evicted before the grace period is over")
		}
		w.memoryLeft(500)
		w.settle(12 * time.Second)
		w.memoryLeft(100)
		w.settle(50 * time.Second) // it begins anew
		if w.phase("hog") != phaseRunning {
			t.Error("evicted before the grace period is over")
		}
		w.settle(30 * time.Second)
		if w.phase("hog") != phaseFailed || w.rt.stopped()[0] != 7*time.Second {
			t.Errorf("hog is %s, stopped with %v", w.phase("hog"), w.rt.stopped())
		}
	})
}

// TestDiskReclaim: before a pod is evicted for its disk, what nobody uses goes: containers and logs of pods that have ended, and images.
func TestDiskReclaim(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.programs["done"] = func(uint32) run { return run{lasts: time.Second} }
		done := wire.Key("pods/default/done/u-done")
		w.put(done, `{"metadata":{"name":"done","namespace":"default","uid":"u-done"},"spec":{"restartPolicy":"Never","containers":[{"name":"done","image":"app:1"}]}}`)
		w.settle(10 * time.Second)
		before := w.report(done).Status
		w.threePods()
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk / 20 })
		w.settle(11 * time.Second)
		if n := len(w.rt.byName("done")); n != 0 {
			t.Errorf("%d containers of a pod that has ended stay", n)
		}
		if _, err := os.Stat(filepath.Join(w.o.LogDir, "default_done_u-done")); !os.IsNotExist(err) {
			t.Errorf("its logs stay: %v", err)
		}
		after := w.report(done).Status
		if after.Phase != phaseSucceeded || after.ContainerStatuses[0].State.Terminated == nil || after.ContainerStatuses[0].ContainerID != before.ContainerStatuses[0].ContainerID {
			t.Errorf("its status is lost: %+v", after)
		}
		w.settle(10 * time.Second)
		if c := cond(w.node().Status.Conditions, "DiskPressure"); c.Status != "True" || !strings.Contains(c.Message, "nodefs.available") {
			t.Errorf("condition %+v", c)
		}
	})
}

// TestDiskEviction: the pod that has filled its emptyDir goes first.
func TestDiskEviction(t *testing.T) {
	simulate(t, func(w *world) {
		w.threePods()
		dir := filepath.Join(w.o.Dir, "u-good", volumesFolder, "data")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		w.machine().set(func(v *Measurement) { v.Disk, v.DiskAvailable = 256<<20, 15<<20 })
		w.settle(13 * time.Second)
		s := w.report("pods/default/good/u-good").Status
		if s.Phase != phaseFailed || !strings.HasPrefix(s.Message, "The node was low on resource: ephemeral-storage. Threshold quantity: ") {
			t.Errorf("status %+v", s)
		}
		w.settle(2 * time.Minute)
		if w.phase("hog") != phaseRunning || w.phase("vital") != phaseRunning {
			t.Error("a pod was evicted that has nothing on the disk")
		}
	})
}

// TestForeignDisk: a disk that something else fills, a little at each look, costs no pod, and is not measured all the time.
func TestForeignDisk(t *testing.T) {
	simulate(t, func(w *world) {
		w.threePods()
		dir := filepath.Join(w.o.Dir, "u-good", volumesFolder, "data")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "small"), make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk/10 - 4<<10 })
		w.settle(5 * time.Minute)
		if w.phase("good") != phaseRunning || w.phase("hog") != phaseRunning {
			t.Error("a pod was evicted for 4 KiB that it does not have")
		}
		w.rt.mu.Lock()
		n := w.rt.calls["ListContainerStats"]
		w.rt.mu.Unlock()
		if n == 0 || n > 6 {
			t.Errorf("looked for what to evict %d times in 5 minutes", n)
		}
		w.machine().set(nil)
		w.settle(15 * time.Second)
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk/10 - 4<<10 })
		w.settle(15 * time.Second)
		calls := func() int {
			w.rt.mu.Lock()
			defer w.rt.mu.Unlock()
			return w.rt.calls["ListContainerStats"]
		}
		before := calls()
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk / 20 })
		w.settle(5 * time.Second)
		if calls() == before {
			t.Error("a disk that fills quickly is not looked at")
		}
		if n := strings.Count(w.logText(), "no pod is left that may be evicted"); n != 2 {
			t.Errorf("said %d times that nothing is left, of two times that it was so", n)
		}
	})
}

// TestSlowDisk: while images are removed, which takes minutes on slow flash, memory is looked at and acted upon; the disk's own thresholds wait.
func TestSlowDisk(t *testing.T) {
	simulate(t, func(w *world) {
		key, doc := podOf("old", "app:2")
		w.put(key, doc)
		w.settle(time.Minute)
		w.desired.remove(key)
		w.settle(11 * time.Minute) // two looks at the images
		w.threePods()
		w.rt.mu.Lock()
		w.rt.latency = func() time.Duration { return 4 * time.Minute }
		w.rt.mu.Unlock()
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk / 20 })
		w.settle(time.Minute)
		lists := w.rt.called("ListImages")
		w.machine().set(func(v *Measurement) { v.DiskAvailable, v.MemoryAvailable = v.Disk/20, 40<<20 })
		for i := 0; i < 12 && w.phase("hog") != phaseFailed; i++ { // no longer: another pod would have to go for the same shortage
			w.settle(500 * time.Millisecond)
		}
		if s := w.report("pods/default/hog/u-hog").Status; s.Phase != phaseFailed || !strings.Contains(s.Message, "resource: memory") {
			t.Errorf("hog: %+v", s)
		}
		if c := cond(w.node().Status.Conditions, "MemoryPressure"); c.Status != "True" {
			t.Errorf("condition %+v", c)
		}
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk / 20 })
		w.settle(2 * time.Minute)
		if n := w.rt.called("RemoveImage"); n != 1 {
			t.Errorf("%d images were asked to go while one goes", n)
		}
		if n := w.rt.called("ListImages") - lists; n > 3 { // the node's own looks
			t.Errorf("images were listed %d times while one goes", n)
		}
		if w.phase("good") != phaseRunning {
			t.Error("a pod was evicted for a disk on which room is being made")
		}
		w.settle(2 * time.Minute)
		if n := strings.Count(w.logText(), "removed an image"); n != 1 {
			t.Errorf("the image is gone %d times", n)
		}
	})
}

// TestStopWhileADiskIsRelieved: the manager ends at once, though an image is being removed.
func TestStopWhileADiskIsRelieved(t *testing.T) {
	simulate(t, func(w *world) {
		key, doc := podOf("old", "app:2")
		w.put(key, doc)
		w.settle(time.Minute)
		w.desired.remove(key)
		w.settle(11 * time.Minute)
		w.rt.mu.Lock()
		w.rt.latency = func() time.Duration { return time.Hour }
		w.rt.mu.Unlock()
		w.machine().set(func(v *Measurement) { v.DiskAvailable = v.Disk / 20 })
		w.settle(time.Minute)
		before := time.Now()
		w.stop()
		if took := time.Since(before); took != 0 || w.rt.called("RemoveImage") != 1 {
			t.Errorf("it took %v to stop; %d images were being removed", took, w.rt.called("RemoveImage"))
		}
	})
}

// TestStuckVictim: a pod that cannot be stopped is asked once, and after a while the next one goes.
func TestStuckVictim(t *testing.T) {
	simulate(t, func(w *world) {
		w.threePods()
		w.rt.mu.Lock()
		w.rt.stuck = "hog"
		w.rt.mu.Unlock()
		w.memoryLeft(40)
		w.settle(victimPatience + 15*time.Second)
		if w.phase("good") != phaseFailed {
			t.Error("the next pod was not evicted")
		}
		w.settle(2 * time.Minute)
		if n := strings.Count(w.logText(), "a pod is evicted"); n != 2 {
			t.Errorf("two pods were evicted %d times", n)
		}
	})
}

// TestGroupUsage reads cgroups of both versions, for runtimes that do not tell.
func TestGroupUsage(t *testing.T) {
	simulate(t, func(w *world) {
		write := func(path, text string) {
			t.Helper()
			full := filepath.Join(w.o.CgroupRoot, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("memory/skerry/podv1/memory.usage_in_bytes", "1000\n")
		write("memory/skerry/podv1/memory.stat", "cache 5\ninactive_file 9\ntotal_inactive_file 300\n")
		write("pids/skerry/podv1/pids.current", "12\n")
		write("skerry/podv2/memory.current", "2000\n")
		write("skerry/podv2/memory.stat", "anon 5\ninactive_file 500\n")
		write("skerry/podv2/pids.current", "7\n")
		for uid, want := range map[string][2]int64{"v1": {700, 12}, "v2": {1500, 7}, "none": {0, 0}, "../x": {0, 0}} {
			if got := [2]int64{w.m.groupMemory(uid), w.m.groupValue(uid, "pids", "pids.current")}; got != want {
				t.Errorf("%s: %v, want %v", uid, got, want)
			}
		}
	})
}

// TestGroupUsageOfSlices: systemd's slices lie in each other as their names say, however deep.
func TestGroupUsageOfSlices(t *testing.T) {
	m := &Manager{o: Options{CgroupParent: "/edge/skerry", CgroupRoot: t.TempDir()}}
	m.rt.systemd = true
	dir := filepath.Join(m.o.CgroupRoot, "pids", "edge.slice", "edge-skerry.slice", "edge-skerry-podu.slice")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pids.current"), []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := m.groupValue("u", "pids", "pids.current"); n != 12 {
		t.Errorf("%d processes", n)
	}
}

// TestLateImageFs: the runtime may say only later where its images are.
func TestLateImageFs(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.setDown(errFakeDown)
		w.stop()
		w.o.FileSystem = func(string) (FileSystem, error) {
			return FileSystem{Size: 100, Available: 1, Inodes: 100, InodesFree: 100}, nil
		}
		w.start()
		w.settle(15 * time.Second)
		if c := cond(w.node().Status.Conditions, "DiskPressure"); c.Status != "False" {
			t.Errorf("condition %+v", c)
		}
		w.rt.setDown(nil)
		w.settle(15 * time.Second)
		if c := cond(w.node().Status.Conditions, "DiskPressure"); c.Status != "True" || !strings.Contains(c.Message, "imagefs.available") {
			t.Errorf("condition %+v", c)
		}
	})
}
