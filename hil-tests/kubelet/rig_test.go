//go:build integration

package kubelet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/balancer"
	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	node     = "gw-1"
	patience = 40 * time.Second
)

// world is the system: the agent is connected to relay holder; other is the one that has to hand on.
type world struct {
	*stack.Stack
	cluster       *stack.Cluster
	holder, other *stack.Replica
	balancer      *balancer.Balancer // in front of them, for the API server
	first, last   int                // nodes' own ports
}

var w *world // made by TestMain, before any test

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, stack.Options{Node: node}, prepare)) }

func prepare(ctx context.Context, s *stack.Stack) (err error) {
	w = &world{Stack: s}
	if w.cluster, err = w.Cluster(); err != nil {
		return err
	}
	box, err := images.Busybox(ctx, runtime.GOARCH, images.ImageConfig{})
	if err != nil {
		return err
	}
	if err := w.Images.Push(ctx, "busybox:1", box); err != nil {
		return err
	}
	if err := w.startRelays(ctx); err != nil {
		return err
	}
	w.RelayAt = w.holder.At
	if err := w.Join(ctx); err != nil {
		return err
	}
	return w.StartAgent(ctx)
}

func (w *world) startRelays(ctx context.Context) (err error) {
	if w.balancer, err = balancer.New(); err != nil {
		return err
	}
	w.OnStop(w.balancer.Close)
	if w.first, err = freeRange(4); err != nil {
		return err
	}
	w.last = w.first + 3
	// One machine has each port once: the relay without the agent listens at the nodes' own.
	ownPorts := map[string]any{"nodePorts": fmt.Sprintf("%d-%d", w.first, w.last)}
	if w.holder, err = w.KubeletReplica(ctx, "relay-holder", w.balancer, nil); err != nil {
		return err
	}
	if w.other, err = w.KubeletReplica(ctx, "relay-other", w.balancer, ownPorts); err != nil {
		return err
	}
	for _, r := range []*stack.Replica{w.holder, w.other} {
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
	w.balancer.Through(w.holder.KubeletAt)
	return nil
}

// freeRange finds n consecutive free ports.
func freeRange(n int) (first int, err error) {
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		first := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		ok := first+n < 65000
		for i := range n {
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i)); err != nil {
				ok = false
			} else {
				_ = l.Close()
			}
		}
		if ok {
			return first, nil
		}
	}
	return 0, errors.New("no free range of ports")
}

// kubectl is one call.
type kubectl struct {
	*exec.Cmd
	out, errs lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func call(t *testing.T, stdin io.Reader, args ...string) *kubectl {
	t.Helper()
	return callEnv(t, nil, stdin, args...)
}

func callEnv(t *testing.T, env []string, stdin io.Reader, args ...string) *kubectl {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	k := &kubectl{Cmd: exec.CommandContext(ctx, filepath.Join(stacktest.Bin(), "skerry-kube"), append([]string{"kubectl", "--kubeconfig", w.Kube.Kubeconfig()}, args...)...)}
	k.Env = append(append(os.Environ(), "KUBERC=off", "KUBECACHEDIR="+filepath.Join(w.Dir, "kubectl-cache")), env...)
	k.Stdin, k.Stdout, k.Stderr = stdin, &k.out, &k.errs
	k.WaitDelay = 2 * time.Second
	return k
}

// run returns what kubectl printed and its exit code.
func run(t *testing.T, stdin io.Reader, args ...string) (out string, code int) {
	t.Helper()
	k := call(t, stdin, args...)
	err := k.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return k.out.String() + k.errs.String(), k.ProcessState.ExitCode()
}

// must fails the test unless kubectl ends with 0.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := run(t, nil, args...)
	if code != 0 {
		t.Fatalf("kubectl %s: exit code %d: %s", strings.Join(args, " "), code, out)
	}
	return out
}

// pod makes a pod and waits until its phase is one of those given.
func pod(t *testing.T, name, spec string, phases ...string) {
	t.Helper()
	if len(phases) == 0 {
		phases = []string{"Running"}
	}
	doc := strings.NewReplacer("$NAME", name, "$NODE", node, "$BUSYBOX", w.Images.Ref("busybox:1"), "$SAMPLE", w.Images.Ref("sample:1")).Replace(
		"apiVersion: v1\nkind: Pod\nmetadata: {name: $NAME, namespace: default}\nspec:\n  nodeName: $NODE\n  automountServiceAccountToken: false\n  terminationGracePeriodSeconds: 1\n" + spec)
	if _, err := w.Kube.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = w.Kube.Kubectl(context.Background(), "delete", "pod", name, "--now", "--wait=false", "--ignore-not-found")
	})
	stacktest.Eventually(t, patience, name+" is "+strings.Join(phases, " or "), func() (bool, string) {
		out, _ := run(t, nil, "get", "pod", name, "-o", "jsonpath={.status.phase}")
		for _, p := range phases {
			if out == p {
				return true, out
			}
		}
		return false, out
	})
}
