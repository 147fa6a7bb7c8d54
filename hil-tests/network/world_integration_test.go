//go:build integration

package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/isolation"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

func TestMain(m *testing.M) { os.Exit(isolation.Run(m)) }

const (
	clusterCIDR = "10.244.0.0/16"
	patience    = 40 * time.Second
)

// world is a system whose containerd has no CNI configuration of its own.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
}

// start starts a system and joins its node; pods are keys of the agent's configuration.
func start(t *testing.T, pods map[string]any) *world {
	t.Helper()
	s := stacktest.Start(t, stack.Options{ClusterCIDR: clusterCIDR, NoNetwork: true})
	w := &world{Stack: s}
	var err error
	if w.cluster, err = s.Cluster(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{s.StartRelay, s.Join} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.configure(t, pods)
	if err := s.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// configure writes the agent's configuration with keys below pods.
func (w *world) configure(t *testing.T, keys map[string]any) {
	t.Helper()
	resolver := filepath.Join(w.Dir, "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver "+isolation.Address+"\nsearch plant.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := w.WriteAgentConfig(func(doc map[string]any) {
		pods := doc["pods"].(map[string]any)
		pods["resolvConf"] = resolver
		for k, v := range keys {
			pods[k] = v
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) node(t *testing.T) *corev1.Node {
	t.Helper()
	n, err := w.cluster.Core.CoreV1().Nodes().Get(t.Context(), w.Node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ready waits until the node's Ready condition has a status and says so in its message.
func (w *world) nodeSays(t *testing.T, status corev1.ConditionStatus, words ...string) {
	t.Helper()
	stacktest.Eventually(t, patience, "the node is Ready="+string(status), func() (bool, string) {
		is, message, err := w.cluster.NodeReady(t.Context(), w.Node)
		if err != nil || is != status {
			return false, fmt.Sprint(is, " ", message, err)
		}
		for _, word := range words {
			if !strings.Contains(message, word) {
				return false, message
			}
		}
		return true, ""
	})
}

// apply applies a manifest; IMAGE is the sample image.
func (w *world) apply(t *testing.T, manifest string) {
	t.Helper()
	if out, err := w.Kube.Apply(t.Context(), strings.ReplaceAll(manifest, "IMAGE", w.Images.Ref("sample:1"))); err != nil {
		t.Fatal(err, out)
	}
}

// pods returns the pods of a label once n of them are ready.
func (w *world) pods(t *testing.T, namespace, label string, n int) (out []corev1.Pod) {
	t.Helper()
	stacktest.Eventually(t, patience, fmt.Sprintf("%d pods of %s are ready", n, label), func() (bool, string) {
		list, err := w.cluster.Core.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: label})
		if err != nil {
			return false, err.Error()
		}
		out = out[:0]
		saw := ""
		for _, p := range list.Items {
			saw += fmt.Sprintf("%s %s %v; ", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
					out = append(out, p)
				}
			}
		}
		return len(out) == n, saw
	})
	return out
}

// inside runs the sample program in a pod's first container and returns what it prints.
func (w *world) inside(t *testing.T, pod *corev1.Pod, args ...string) (string, error) {
	t.Helper()
	list, err := w.Runtime.Client().ListContainers(t.Context(), &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Labels["io.kubernetes.pod.uid"] != string(pod.UID) || c.Metadata.Name != pod.Spec.Containers[0].Name {
			continue
		}
		r, err := w.Runtime.Client().ExecSync(t.Context(), c.ID, append([]string{"/sample"}, args...), 15*time.Second)
		if err != nil {
			return "", err
		}
		if r.ExitCode != 0 {
			return "", fmt.Errorf("%s in %s: %s", strings.Join(args, " "), pod.Name, r.Stderr)
		}
		return strings.TrimSpace(string(r.Stdout)), nil
	}
	return "", fmt.Errorf("no container of %s runs", pod.Name)
}

// says waits until a command in a pod prints what is wanted.
func (w *world) says(t *testing.T, pod *corev1.Pod, want string, args ...string) {
	t.Helper()
	stacktest.Eventually(t, patience, fmt.Sprintf("%s: %s says %q", pod.Name, strings.Join(args, " "), want), func() (bool, string) {
		out, err := w.inside(t, pod, args...)
		return err == nil && strings.Contains(out, want), fmt.Sprint(out, err)
	})
}

// fetch asks a server from the node itself.
func fetch(t *testing.T, url string) string {
	t.Helper()
	var body string
	stacktest.Eventually(t, 20*time.Second, "GET "+url, func() (bool, string) {
		resp, err := (&http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		body = string(b)
		return err == nil && resp.StatusCode == http.StatusOK, resp.Status
	})
	return body
}

// datagram sends a datagram from the node and returns the answer.
func datagram(t *testing.T, address string) string {
	t.Helper()
	var answer string
	stacktest.Eventually(t, 20*time.Second, "a datagram to "+address, func() (bool, string) {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return false, err.Error()
		}
		defer conn.Close()
		buf := make([]byte, 1500)
		conn.SetDeadline(time.Now().Add(time.Second)) //nolint:errcheck // of a new connection
		if _, err := conn.Write([]byte("?")); err != nil {
			return false, err.Error()
		}
		n, err := conn.Read(buf)
		answer = string(buf[:n])
		return err == nil, fmt.Sprint(err)
	})
	return answer
}

// events returns reasons and messages of the events about an object.
func (w *world) events(t *testing.T, name, reason string) (messages []string) {
	t.Helper()
	list, err := w.cluster.Core.CoreV1().Events("").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		messages = append(messages, e.Message)
	}
	return messages
}

// conflist reads a configuration in the runtime's folder; nil if it is not there.
func (w *world) conflist(t *testing.T, name string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Runtime.CNIDir(), name))
	if os.IsNotExist(err) {
		return nil
	}
	var doc map[string]any
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
