//go:build integration

package registries_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const ns = "default"

// stall is the agent's pods.images.stallTimeout.
const stall = 5 * time.Second

// world is one gateway, and the registries that it may pull from.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
	docs    map[string]string // path → content, from docs/images.md
	ip      string
	ca      *images.CA
	sample  v1.Image

	trusted, unknown, basic, bearer *images.Registry
}

// login is what opens the private registries.
var login = map[string]string{"plant": "correct horse"}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{Stack: stacktest.Start(t, stack.Options{}), docs: examples(t)}
	var err error
	if w.cluster, err = w.Cluster(); err != nil {
		t.Fatal(err)
	}
	w.sameConfig(t)
	ip, remove, err := images.Address(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	})
	w.ip = ip
	if w.ca, err = images.NewCA("plant"); err != nil {
		t.Fatal(err)
	}
	if w.sample, err = images.FromBinary(filepath.Join(w.Module, "build", "images", runtime.GOARCH, "sample"), runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	other, err := images.NewCA("somebody else")
	if err != nil {
		t.Fatal(err)
	}
	w.trusted, w.basic = w.serve(t, images.Front{}), w.serve(t, images.Front{Users: login})
	w.bearer = w.serve(t, images.Front{Users: login, Tokens: true})
	if w.unknown, err = w.Images.Serve(images.Front{IP: ip, CA: other}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.unknown.Close() })
	w.push(t, "ahead:1")
	configure := func(context.Context) error {
		return w.WriteAgentConfig(func(doc map[string]any) {
			doc["pods"].(map[string]any)["images"] = map[string]any{"stallTimeout": stall.String(), "parallelPulls": 2, "prePull": []string{w.trusted.Ref("ahead:1")}}
		})
	}
	for _, step := range []func(context.Context) error{w.StartRelay, w.Join, configure, w.StartAgent} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// serve starts a registry with a certificate of the plant's CA, which the runtime is told of as docs/images.md has it.
func (w *world) serve(t *testing.T, f images.Front) *images.Registry {
	t.Helper()
	f.IP, f.CA = w.ip, w.ca
	reg, err := w.Images.Serve(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	w.configure(t, "registry.example.org", reg.Addr(), map[string]string{"registry.example.org": reg.Addr()})
	return reg
}

// sameConfig holds that the runtime runs with the documented lines.
func (w *world) sameConfig(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(w.Runtime.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	documented, ok := w.docs["/etc/containerd/config.toml"]
	if !ok {
		t.Fatal("docs/images.md does not show /etc/containerd/config.toml")
	}
	documented = strings.ReplaceAll(documented, "/etc/containerd/certs.d", w.Runtime.CertsDir())
	for line := range strings.Lines(documented) {
		if !strings.Contains(string(b), strings.TrimSpace(line)) {
			t.Errorf("the runtime's configuration lacks the documented %s", line)
		}
	}
}

// configure writes the documented hosts.toml of a registry, for another registry: names are replaced.
func (w *world) configure(t *testing.T, documented, host string, replace map[string]string) {
	t.Helper()
	text, ok := w.docs["/etc/containerd/certs.d/"+documented+"/hosts.toml"]
	if !ok {
		t.Fatalf("docs/images.md has no example of %s: %v", documented, w.docs)
	}
	for from, to := range replace {
		text = strings.ReplaceAll(text, "//"+from+"\"", "//"+to+"\"")
	}
	dir := filepath.Join(w.Runtime.CertsDir(), host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"hosts.toml": text, "ca.crt": string(w.ca.PEM)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// examples returns the files that docs/images.md shows, by their paths: blocks whose first line is a comment with the path.
func examples(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/images.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```[a-z]+\n# (/[^\n]+)\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
		out[m[1]] = m[2]
	}
	return out
}

// push makes the sample image known by a name of its own, as "team/app:1".
func (w *world) push(t *testing.T, tag string) {
	t.Helper()
	if err := w.Images.Push(t.Context(), tag, w.sample); err != nil {
		t.Fatal(err)
	}
}

// entry is what a secret says of a registry.
func entry(password string) map[string]string {
	return map[string]string{"username": "plant", "password": password}
}

// secret makes or replaces a secret of type kubernetes.io/dockerconfigjson.
func (w *world) secret(t *testing.T, name string, auths map[string]map[string]string) {
	t.Helper()
	w.secretOf(t, name, corev1.SecretTypeDockerConfigJson, corev1.DockerConfigJsonKey, map[string]any{"auths": auths})
}

func (w *world) secretOf(t *testing.T, name string, kind corev1.SecretType, key string, doc any) {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Type: kind, Data: map[string][]byte{key: b}}
	api := w.cluster.Core.CoreV1().Secrets(ns)
	if _, err = api.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		_, err = api.Create(t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// want is a pod that wants an image.
type want struct {
	image   string
	policy  corev1.PullPolicy // empty: IfNotPresent
	secrets []string
	account string
}

// pod makes a pod; it is deleted when the test ends.
func (w *world) pod(t *testing.T, name string, want want) {
	t.Helper()
	if want.policy == "" {
		want.policy = corev1.PullIfNotPresent
	}
	grace := int64(1)
	mount := false
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeName: w.Node, ServiceAccountName: want.account, AutomountServiceAccountToken: &mount, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "c", Image: want.image, ImagePullPolicy: want.policy, Args: []string{"sleep"}}},
	}}
	for _, s := range want.secrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	if _, err := w.cluster.Core.CoreV1().Pods(ns).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cluster.Core.CoreV1().Pods(ns).Delete(context.Background(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
}

// await waits until a pod's only container is as it should be.
func (w *world) await(t *testing.T, name, what string, is func(s *corev1.ContainerStatus) bool) *corev1.ContainerStatus {
	t.Helper()
	var got *corev1.ContainerStatus
	stacktest.Eventually(t, 50*time.Second, name+" "+what, func() (bool, string) {
		p, err := w.cluster.Core.CoreV1().Pods(ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || len(p.Status.ContainerStatuses) != 1 {
			return false, fmt.Sprint("no status ", err)
		}
		got = &p.Status.ContainerStatuses[0]
		return is(got), fmt.Sprintf("%+v", got.State)
	})
	return got
}

func (w *world) runs(t *testing.T, name string) *corev1.ContainerStatus {
	t.Helper()
	return w.await(t, name, "runs", func(s *corev1.ContainerStatus) bool { return s.State.Running != nil })
}

// waits waits until a pod waits for its image with one of the reasons, and holds that the message has all parts.
func (w *world) waits(t *testing.T, name, reasons string, parts ...string) {
	t.Helper()
	s := w.await(t, name, "waits: "+reasons, func(s *corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && strings.Contains(" "+reasons+" ", " "+s.State.Waiting.Reason+" ")
	})
	for _, part := range parts {
		if !strings.Contains(s.State.Waiting.Message, part) {
			t.Errorf("%s: %s does not say %q: %s", name, s.State.Waiting.Reason, part, s.State.Waiting.Message)
		}
	}
}

// event waits for an event of a pod.
func (w *world) event(t *testing.T, pod, reason, part string) {
	t.Helper()
	stacktest.Eventually(t, 50*time.Second, fmt.Sprintf("event %s of %s", reason, pod), func() (bool, string) {
		list, err := w.cluster.Core.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
		if err != nil {
			return false, err.Error()
		}
		saw := ""
		for _, e := range list.Items {
			if e.Reason == reason && strings.Contains(e.Message, part) {
				return true, ""
			}
			saw += e.Reason + ": " + e.Message + "\n"
		}
		return false, saw
	})
}
