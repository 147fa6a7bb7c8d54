//go:build integration

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/modbuspeer"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// world is the system that all tests share.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
	modbus  *modbuspeer.Peer
}

var w *world // made by TestMain, before any test

const (
	ns   = "default"
	node = "gw-1"
)

func TestMain(m *testing.M) {
	os.Exit(stacktest.Main(m, stack.Options{Node: node, ClusterDNS: "10.96.0.10"}, prepare))
}

func prepare(ctx context.Context, s *stack.Stack) (err error) {
	w = &world{Stack: s}
	if w.cluster, err = w.Cluster(); err != nil {
		return err
	}
	if w.modbus, err = modbuspeer.Start(ctx, modbuspeer.Options{}); err != nil {
		return err
	}
	w.OnStop(w.modbus.Stop)
	// The agent's data is on a small file system of its own, which one test fills up. Stack.Stop unmounts it.
	if err := os.MkdirAll(w.AgentData(), 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", w.AgentData(), "tmpfs", 0, "size=24m,mode=0700"); err != nil {
		return fmt.Errorf("mount a small file system for the agent: %w", err)
	}
	for _, step := range []func(context.Context) error{w.StartRelay, w.Join, w.StartAgent} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// never holds that check stays false for a while.
func never(t *testing.T, during time.Duration, what string, check func() (is bool, saw string)) {
	t.Helper()
	for began := time.Now(); time.Since(began) < during; time.Sleep(50 * time.Millisecond) {
		if is, saw := check(); is {
			t.Fatalf("%s: %s", what, saw)
		}
	}
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.Kube.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// apply applies a manifest in which $NODE, $IMAGE, $MODBUS_IP, $MODBUS_PORT and what vars (name, value, …) say stand for values.
func apply(t *testing.T, manifest string, vars ...string) {
	t.Helper()
	if _, err := w.Kube.Apply(t.Context(), expand(manifest, vars...)); err != nil {
		t.Fatal(err)
	}
}

func expand(manifest string, vars ...string) string {
	host, port, _ := strings.Cut(w.modbus.Addr(), ":")
	known := map[string]string{"NODE": node, "IMAGE": w.Images.Ref("sample:1"), "MODBUS_IP": host, "MODBUS_PORT": port}
	for i := 0; i+1 < len(vars); i += 2 {
		known[vars[i]] = vars[i+1]
	}
	return os.Expand(manifest, func(k string) string { return known[k] })
}

// remove deletes objects at the end of the test and does not wait for it.
func remove(t *testing.T, what ...string) {
	t.Cleanup(func() {
		args := append(append([]string{"delete", "--ignore-not-found", "--wait=false"}, what[0]), what[1:]...)
		if out, err := w.Kube.Kubectl(context.Background(), args...); err != nil {
			t.Errorf("kubectl %v: %v %s", args, err, out)
		}
	})
}

func pods(t *testing.T, selector string) []corev1.Pod {
	t.Helper()
	list, err := w.cluster.Core.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// awaitPod waits until the pod fulfils is, and returns it.
func awaitPod(t *testing.T, name string, limit time.Duration, what string, is func(p *corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var got *corev1.Pod
	stacktest.Eventually(t, limit, "pod "+name+" "+what, func() (bool, string) {
		p, err := w.cluster.Core.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		got = p
		return is(p), describe(p)
	})
	return got
}

func gone(t *testing.T, name string, limit time.Duration) {
	t.Helper()
	stacktest.Eventually(t, limit, "pod "+name+" is gone", func() (bool, string) {
		list, err := w.cluster.Core.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil {
			return false, err.Error()
		}
		if len(list.Items) == 0 {
			return true, ""
		}
		return false, describe(&list.Items[0])
	})
}

func ready(p *corev1.Pod) bool {
	c := podCondition(p, corev1.PodReady)
	return p.Status.Phase == corev1.PodRunning && c != nil && c.Status == corev1.ConditionTrue
}

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

func waitingFor(reason string) func(p *corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		s := p.Status.ContainerStatuses[0].State.Waiting
		return s != nil && s.Reason == reason
	}
}

func describe(p *corev1.Pod) string {
	text := fmt.Sprintf("%s: %s %s %s", p.Name, p.Status.Phase, p.Status.Reason, p.Status.Message)
	for _, c := range p.Status.ContainerStatuses {
		if s := c.State.Waiting; s != nil {
			text += fmt.Sprintf(" [%s waits: %s: %s]", c.Name, s.Reason, s.Message)
		}
		if s := c.State.Terminated; s != nil {
			text += fmt.Sprintf(" [%s ended: %d %s: %s]", c.Name, s.ExitCode, s.Reason, s.Message)
		}
		if s := c.LastTerminationState.Terminated; s != nil {
			text += fmt.Sprintf(" [%s last ended: %d %s: %s]", c.Name, s.ExitCode, s.Reason, s.Message)
		}
	}
	return text
}

// contains fails the test for each of the wanted parts that text lacks.
func contains(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, s := range want {
		if !strings.Contains(text, s) {
			t.Errorf("%s does not say %q:\n%s", what, s, text)
		}
	}
}

// running returns name → id/attempt of the containers that run at the edge, asked of containerd itself.
func running(t *testing.T) map[string]string {
	t.Helper()
	list, err := w.Runtime.Client().ListContainers(t.Context(), &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range list {
		out[c.Labels["io.kubernetes.pod.name"]+"/"+c.Metadata.Name] = fmt.Sprintf("%s attempt %d created %d", c.ID, c.Metadata.Attempt, c.CreatedAt)
	}
	return out
}

// inside runs a program in the only running container of a pod and returns what it printed.
func inside(t *testing.T, pod string, argv ...string) string {
	t.Helper()
	for name, id := range running(t) {
		if strings.HasPrefix(name, pod+"/") {
			r, err := w.Runtime.Client().ExecSync(t.Context(), strings.Fields(id)[0], argv, 5*time.Second)
			if err != nil {
				return err.Error()
			}
			return string(r.Stdout) + string(r.Stderr)
		}
	}
	return "no such container runs"
}

// logMark is a position in a log.
type logMark struct {
	path string
	from int64
}

func markLog(name string) logMark {
	m := logMark{path: filepath.Join(w.Dir, "logs", name+".log")}
	if info, err := os.Stat(m.path); err == nil {
		m.from = info.Size()
	}
	return m
}

// since returns the lines written after the mark.
func (m logMark) since(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimRight(string(b[min(m.from, int64(len(b))):]), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// with returns the lines after the mark that have all the parts.
func (m logMark) with(t *testing.T, parts ...string) []string {
	t.Helper()
	return slices.DeleteFunc(m.since(t), func(line string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) })
	})
}

// once waits until one line has all the parts, and holds that no second one has.
func (m logMark) once(t *testing.T, parts ...string) string {
	t.Helper()
	var lines []string
	stacktest.Eventually(t, 20*time.Second, fmt.Sprintf("a log line with %q", parts), func() (bool, string) {
		lines = m.with(t, parts...)
		return len(lines) > 0, strings.Join(m.since(t), "\n")
	})
	if len(lines) != 1 {
		t.Errorf("%d log lines with %q, one was due:\n%s", len(lines), parts, strings.Join(lines, "\n"))
	}
	return lines[0]
}

// atMost holds that the log did not grow by more than n lines that are not at level DEBUG.
func (m logMark) atMost(t *testing.T, n int) {
	t.Helper()
	if lines := m.since(t); len(lines) > n {
		t.Errorf("%d log lines, at most %d were due:\n%s", len(lines), n, strings.Join(lines, "\n"))
	}
}

// noCrash holds that the agent of the shared system is the process with this id.
func noCrash(t *testing.T, pid int) {
	t.Helper()
	if w.Agent == nil || w.Agent.PID() != pid || w.Agent.Err() != nil {
		t.Fatalf("the agent is not the process %d any more", pid)
	}
	if lines := (logMark{path: filepath.Join(w.Dir, "logs", "skerryd.log")}).with(t, "a part of the agent stopped"); len(lines) > 0 {
		t.Errorf("a part of the agent crashed:\n%s", strings.Join(lines, "\n"))
	}
}

// connected waits until the shared agent has a session and is in sync.
func connected(t *testing.T) {
	t.Helper()
	stacktest.Eventually(t, 45*time.Second, "the agent is connected and in sync", func() (bool, string) {
		st, err := w.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return st.Link.Connected && st.Link.InSync, fmt.Sprintf("%+v", st.Link)
	})
}
