//go:build integration

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// TestBadPod: each pod that cannot run says why in its status, once in an event, and runs as soon as the cause is gone.
func TestBadPod(t *testing.T) {
	dir := filepath.Join(w.Dir, "hostpath")
	for _, c := range []struct {
		name     string
		old, new string   // in the manifest of a simple pod
		reason   string   // of the waiting container; "" if the pod itself says it
		want     []string // in its message
		mend     func(t *testing.T)
	}{
		{"image", "$IMAGE", "$MISSING", "ImagePullBackOff", []string{"Back-off pulling image", "missing:1", "not found"}, func(t *testing.T) {
			image, err := images.FromBinary(filepath.Join(w.Module, "build", "images", "amd64", "sample"), "amd64", "SAMPLE_VERSION=3")
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Images.Push(t.Context(), "missing:1", image); err != nil {
				t.Fatal(err)
			}
		}},
		{"hostpath", "{name: c, image: $IMAGE}", "{name: c, image: $IMAGE, volumeMounts: [{name: v, mountPath: /v}]}\n  volumes: [{name: v, hostPath: {path: " + dir + ", type: Directory}}]",
			"ContainerCreating", []string{`volume "v"`, "hostPath " + dir, "no such path on this gateway"}, func(t *testing.T) {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}},
		{"memory", "image: $IMAGE", "image: $IMAGE, resources: {limits: {memory: 64Ki}}", "RunContainerError", []string{"the memory limit 64Ki is too small to start the container", `raise resources.limits.memory of container "c"`}, nil},
		{"command", "image: $IMAGE", "image: $IMAGE, command: [/nonexistent]", "RunContainerError", []string{"the image has no such program", `correct the command of container "c"`, "/nonexistent"}, nil},
		{"configmap", "image: $IMAGE", "image: $IMAGE, envFrom: [{configMapRef: {name: settings-not-there}}]", "CreateContainerConfigError", []string{`configmap "settings-not-there" not found`}, func(t *testing.T) {
			remove(t, "configmap", "settings-not-there")
			kubectl(t, "create", "configmap", "settings-not-there", "--from-literal=A=b")
		}},
		{"secret-key", "image: $IMAGE", "image: $IMAGE, env: [{name: A, valueFrom: {secretKeyRef: {name: half, key: b}}}]", "CreateContainerConfigError", []string{`couldn't find key "b" in secret "half"`, "add it there"}, func(t *testing.T) {
			kubectl(t, "patch", "secret", "half", "--type=merge", "-p", `{"stringData":{"b":"x"}}`)
		}},
		{"unsupported", "image: $IMAGE", "image: $IMAGE, livenessProbe: {httpGet: {host: vault.example.org, port: 8443, scheme: HTTPS}}", "", []string{"spec.containers[0].livenessProbe.httpGet.host", "HTTPS requests go only to the pod or to this node", "leave host out, or use HTTP, tcpSocket"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := "bad-" + c.name
			remove(t, "pod", name)
			if c.name == "secret-key" {
				remove(t, "secret", "half")
				kubectl(t, "create", "secret", "generic", "half", "--from-literal=a=x")
			}
			pid, mark := w.Agent.PID(), markLog("skerryd")
			apply(t, strings.Replace(simplePod, c.old, c.new, 1), "NAME", name, "MISSING", w.Images.Ref("missing:1"))
			p := awaitPod(t, name, 30*time.Second, "says why it does not run", func(p *corev1.Pod) bool {
				if c.reason == "" {
					return strings.Contains(fmt.Sprintf("%+v", p.Status), c.want[0])
				}
				// ContainerCreating has no message until something went wrong.
				return waitingFor(c.reason)(p) && p.Status.ContainerStatuses[0].State.Waiting.Message != ""
			})
			message := p.Status.Message
			if c.reason != "" {
				message = p.Status.ContainerStatuses[0].State.Waiting.Message
			} else {
				for _, cond := range p.Status.Conditions {
					message += " " + cond.Message
				}
			}
			t.Logf("%s: %s", c.name, message)
			contains(t, "the status", message, c.want...)
			time.Sleep(3 * time.Second)
			_, list := eventsOf(t, name)
			warnings := map[string]int{}
			for _, e := range list {
				if e.Type == corev1.EventTypeWarning {
					warnings[e.Message]++
				}
			}
			// Between the first and the second message of a failing pull lies the kubelet's ErrImagePull.
			if len(warnings) == 0 || len(warnings) > 2 || slices.Max(slices.Collect(maps.Values(warnings))) > 1 {
				t.Errorf("warnings: %v", warnings)
			}
			if lines := mark.with(t, name); len(lines) > 12 {
				t.Errorf("%d log lines:\n%s", len(lines), strings.Join(lines, "\n"))
			}
			if c.mend == nil {
				return
			}
			uid := p.UID
			c.mend(t)
			if p = awaitPod(t, name, 40*time.Second, "runs once the cause is gone", ready); p.UID != uid {
				t.Error("it is another pod")
			}
			noCrash(t, pid)
		})
	}
}

func nodeCondition(t *testing.T, kind corev1.NodeConditionType) corev1.NodeCondition {
	t.Helper()
	n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func TestContainerdAway(t *testing.T) {
	remove(t, "pod/stays", "pod/late")
	apply(t, simplePod, "NAME", "stays")
	id := awaitPod(t, "stays", 30*time.Second, "is ready", ready).Status.ContainerStatuses[0].ContainerID
	before := running(t)
	away := func(t *testing.T) {
		t.Helper()
		stacktest.Eventually(t, 25*time.Second, "the node says that the runtime is away", func() (bool, string) {
			c := nodeCondition(t, corev1.NodeReady)
			return c.Status == corev1.ConditionFalse && c.Reason == "RuntimeNotReady", fmt.Sprintf("%+v", c)
		})
		c := nodeCondition(t, corev1.NodeReady)
		contains(t, "Ready condition", c.Message, w.Runtime.Socket(), "systemctl start containerd")
		contains(t, "skerryd status", statusText(t), "NOT READY", w.Runtime.Socket(), "systemctl status containerd")
	}
	back := func(t *testing.T) {
		t.Helper()
		if err := w.Runtime.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 25*time.Second, "the node is Ready again", func() (bool, string) {
			c := nodeCondition(t, corev1.NodeReady)
			return c.Status == corev1.ConditionTrue, fmt.Sprintf("%+v", c)
		})
		p := awaitPod(t, "stays", 20*time.Second, "is ready", ready)
		if p.Status.ContainerStatuses[0].ContainerID != id || p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("the container was replaced: %+v, before %s", p.Status.ContainerStatuses[0], id)
		}
	}
	// Whatever fails, the tests that follow need it.
	t.Cleanup(func() {
		if w.Runtime.PID() == 0 {
			if err := w.Runtime.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("killed", func(t *testing.T) {
		pid, mark := w.Agent.PID(), markLog("skerryd")
		if err := w.Runtime.Kill(); err != nil {
			t.Fatal(err)
		}
		away(t)
		apply(t, simplePod, "NAME", "late")
		p := awaitPod(t, "late", 15*time.Second, "waits and says for what", func(p *corev1.Pod) bool {
			return waitingFor("ContainerCreating")(p) && p.Status.ContainerStatuses[0].State.Waiting.Message != ""
		})
		contains(t, "the waiting pod", p.Status.ContainerStatuses[0].State.Waiting.Message, w.Runtime.Socket())
		time.Sleep(3 * time.Second)
		if lines := mark.with(t, "level=", "untime"); len(lines) > 3 {
			t.Errorf("%d log lines while the runtime is away:\n%s", len(lines), strings.Join(lines, "\n"))
		}
		back(t)
		awaitPod(t, "late", 30*time.Second, "runs", ready)
		mark.once(t, "the container runtime answers")
		noCrash(t, pid)
	})
	t.Run("away when the agent starts", func(t *testing.T) {
		if err := w.StopAgent(); err != nil {
			t.Fatal(err)
		}
		if err := w.Runtime.Stop(); err != nil {
			t.Fatal(err)
		}
		mark := markLog("skerryd")
		if err := w.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		pid := w.Agent.PID()
		mark.once(t, "level=ERROR", "the container runtime does not answer", "check that the runtime is running", w.Runtime.Socket(), "systemctl status containerd")
		away(t)
		back(t)
		noCrash(t, pid)
	})
	t.Run("hangs", func(t *testing.T) {
		pid := w.Agent.PID()
		if err := w.Runtime.Pause(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Runtime.Resume() })
		stacktest.Eventually(t, 40*time.Second, "the node says that the runtime does not answer", func() (bool, string) {
			c := nodeCondition(t, corev1.NodeReady)
			return c.Status == corev1.ConditionFalse && c.Reason == "RuntimeNotReady", fmt.Sprintf("%+v", c)
		})
		contains(t, "Ready condition", nodeCondition(t, corev1.NodeReady).Message, w.Runtime.Socket(), "in time")
		if err := w.Runtime.Resume(); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 25*time.Second, "the node is Ready again", func() (bool, string) {
			c := nodeCondition(t, corev1.NodeReady)
			return c.Status == corev1.ConditionTrue, fmt.Sprintf("%+v", c)
		})
		noCrash(t, pid)
	})
	t.Run("restarted quickly", func(t *testing.T) {
		pid := w.Agent.PID()
		if err := w.Runtime.Kill(); err != nil {
			t.Fatal(err)
		}
		back(t)
		noCrash(t, pid)
	})
	for name, c := range before {
		if now := running(t); now[name] != c {
			t.Errorf("%s before %s, now %s", name, c, now[name])
		}
	}
}

func TestFullDisk(t *testing.T) {
	remove(t, "pod/runs", "pod/waits", "device/full", "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", "full")
	apply(t, simplePod, "NAME", "runs")
	awaitPod(t, "runs", 30*time.Second, "is ready", ready)
	valuesGood(t, "full")
	quiet(t)
	before, pid, mark := running(t), w.Agent.PID(), markLog("skerryd")

	filler := filepath.Join(w.AgentData(), "filler")
	t.Cleanup(func() { _ = os.Remove(filler) })
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	for err = nil; err == nil; { // to the last page
		_, err = f.Write(block[:1024])
	}
	_ = f.Close()
	// Critical: a node under pressure takes no others. Large: the store has some room left for small things.
	waits := strings.Replace(simplePod, "nodeName: $NODE", "nodeName: $NODE\n  priorityClassName: system-node-critical", 1)
	waits = strings.Replace(waits, "labels:", "annotations: {ballast: "+strings.Repeat("x", 100<<10)+"}, labels:", 1)
	apply(t, waits, "NAME", "waits")
	stacktest.Eventually(t, 30*time.Second, "the agent says that the disk is full", func() (bool, string) {
		text := statusText(t)
		return strings.Contains(text, "CANNOT WRITE") && strings.Contains(text, "the disk is full, free some space"), text
	})
	contains(t, "skerryd status", statusText(t), w.AgentData())
	stacktest.Eventually(t, 30*time.Second, "the node has DiskPressure", func() (bool, string) {
		c := nodeCondition(t, corev1.NodeDiskPressure)
		return c.Status == corev1.ConditionTrue, fmt.Sprintf("%+v", c)
	})
	contains(t, "DiskPressure", nodeCondition(t, corev1.NodeDiskPressure).Message, "of the disk that holds "+w.AgentData(), "remove what is not needed there")
	mark.once(t, "the store cannot write", "the disk is full, free some space", w.AgentData())
	polled(t)
	sameContainers(t, before)
	time.Sleep(3 * time.Second)
	if lines := mark.with(t, "level=", "full"); len(lines) > 7 { // once for the store, and for each event and token that it did not take
		t.Errorf("%d log lines about the full disk:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	noCrash(t, pid)

	// The power fails while the disk is full: the agent starts all the same.
	if err := w.KillAgent(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid = w.Agent.PID()
	edgeReady(t, "runs")
	polled(t)
	sameContainers(t, before)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	awaitPod(t, "waits", 60*time.Second, "runs once there is space", ready)
	stacktest.Eventually(t, 30*time.Second, "all is well again", func() (bool, string) {
		c, text := nodeCondition(t, corev1.NodeDiskPressure), statusText(t)
		return c.Status == corev1.ConditionFalse && !strings.Contains(text, "CANNOT WRITE"), fmt.Sprintf("%+v\n%s", c, text)
	})
	setDesired(t, "full", "11")
	noCrash(t, pid)
}

func TestDamagedStore(t *testing.T) {
	remove(t, "pod/kept", "pod/newest", "device/kept", "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", "kept")
	apply(t, simplePod, "NAME", "kept")
	awaitPod(t, "kept", 30*time.Second, "is ready", ready)
	valuesGood(t, "kept")
	quiet(t)
	before := running(t)
	store := filepath.Join(w.AgentData(), "store")
	files := func(t *testing.T) []string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(store, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(f string) bool {
			info, err := os.Stat(f)
			return err != nil || info.Size() == 0 || strings.Contains(filepath.Base(f), "damaged") || filepath.Base(f) == "LOCK"
		})
	}
	halve := func(t *testing.T, f string) {
		t.Helper()
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(f, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(t *testing.T, f string) {
		t.Helper()
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 0x10
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	erase := func(t *testing.T, f string) {
		t.Helper()
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	loseKey := func(t *testing.T, f string) {
		t.Helper()
		copies, err := filepath.Glob(filepath.Join(w.AgentData(), "seal.key*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range copies {
			if err := os.Remove(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		damage  func(t *testing.T, file string)
		offline bool // the relay comes only later
		silent  bool // nothing is there that could be found damaged
	}{
		{"key of the store lost", loseKey, false, false}, {"truncated to half", halve, false, false}, {"bit flipped", flip, false, false}, {"truncated to half, relay away", halve, true, false}, {"erased, relay away", erase, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := w.StopAgent(); err != nil {
				t.Fatal(err)
			}
			if c.offline {
				if err := w.StopRelay(); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range files(t) {
				info, _ := os.Stat(f)
				t.Logf("%s of %d bytes: %s", filepath.Base(f), info.Size(), c.name)
				c.damage(t, f)
			}
			mark := markLog("skerryd")
			if err := w.StartAgent(t.Context()); err != nil {
				t.Fatal(err)
			}
			pid := w.Agent.PID()
			if c.offline {
				time.Sleep(4 * time.Second) // time enough to do something stupid
				sameContainers(t, before)
				if err := w.StartRelay(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if !c.silent {
				contains(t, "skerryd status", statusText(t), "recovered at the start")
				if lines := mark.with(t, "damage found"); len(lines) == 0 || len(lines) > 6 {
					t.Errorf("%d log lines about the damage:\n%s", len(lines), strings.Join(lines, "\n"))
				} else {
					t.Log(strings.Join(lines, "\n"))
				}
			}
			connected(t)
			awaitPod(t, "kept", 20*time.Second, "is ready", ready)
			edgeReady(t, "kept")
			valuesGood(t, "kept")
			polled(t)
			quiet(t)
			sameContainers(t, before)
			noCrash(t, pid)
		})
	}
	t.Run("newest pod lost, relay away", func(t *testing.T) {
		apply(t, simplePod, "NAME", "newest")
		awaitPod(t, "newest", 30*time.Second, "is ready", ready)
		quiet(t)
		before = running(t)
		if err := errors.Join(w.StopAgent(), w.StopRelay()); err != nil {
			t.Fatal(err)
		}
		for _, f := range files(t) {
			if strings.HasSuffix(f, ".wal") {
				if err := os.Truncate(f, 300); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		sameContainers(t, before)
		if err := w.StartRelay(t.Context()); err != nil {
			t.Fatal(err)
		}
		connected(t)
		edgeReady(t, "newest")
		quiet(t)
		sameContainers(t, before)
	})
	t.Run("sound again", func(t *testing.T) {
		if err := w.StopAgent(); err != nil {
			t.Fatal(err)
		}
		if err := w.StartAgent(t.Context()); err != nil {
			t.Fatal(err)
		}
		connected(t)
		if text := statusText(t); strings.Contains(text, "recovered") {
			t.Errorf("the same damage is found again:\n%s", text)
		}
		sameContainers(t, before)
	})
}
