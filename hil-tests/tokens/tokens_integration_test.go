//go:build integration

package tokens_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// world is the system that the tests of this package share.
type world struct {
	*stack.Stack
	cluster *stack.Cluster
}

func start(t *testing.T) *world {
	t.Helper()
	s := stacktest.Start(t, stack.Options{})
	var err error
	w := &world{Stack: s}
	if w.cluster, err = s.Cluster(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{s.StartRelay, s.Join, s.StartAgent} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// deployment is an ordinary one, as it comes with a chart, with a token for somebody else besides.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext: {runAsUser: 1000, fsGroup: 2000}
      containers:
        - {name: web, image: IMAGE, volumeMounts: [{name: vault, mountPath: /vault}]}
      volumes:
        - name: vault
          projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}
`

func (w *world) ready(t *testing.T) *corev1.Pod {
	t.Helper()
	var got *corev1.Pod
	stacktest.Eventually(t, 60*time.Second, "the Deployment's pod is ready", func() (bool, string) {
		list, err := w.cluster.Core.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil || len(list.Items) != 1 {
			return false, fmt.Sprint(len(list.Items), " pods ", err)
		}
		got = &list.Items[0]
		for _, c := range got.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%s %v", got.Status.Phase, got.Status.ContainerStatuses)
	})
	return got
}

// inside prints a file of the pod's container.
func (w *world) inside(t *testing.T, path string) string {
	t.Helper()
	list, err := w.Runtime.Client().ListContainers(t.Context(), &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Metadata.Name != "web" {
			continue
		}
		r, err := w.Runtime.Client().ExecSync(t.Context(), c.ID, []string{"/sample", "cat", path}, 5*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if r.ExitCode != 0 {
			t.Fatalf("%s: %s", path, r.Stderr)
		}
		return string(r.Stdout)
	}
	t.Fatal("the container does not run")
	return ""
}

// review asks the API server who has a token.
func (w *world) review(t *testing.T, token string, audiences ...string) authenticationv1.TokenReviewStatus {
	t.Helper()
	r, err := w.cluster.Core.AuthenticationV1().TokenReviews().Create(t.Context(),
		&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func TestOrdinaryDeployment(t *testing.T) {
	w := start(t)
	if _, err := w.Kube.Apply(t.Context(), strings.ReplaceAll(deployment, "IMAGE", w.Images.Ref("sample:1"))); err != nil {
		t.Fatal(err)
	}
	pod := w.ready(t)
	token := w.inside(t, account+"token")
	t.Run("it is the pod's", func(t *testing.T) { w.isThePods(t, token, pod) })
	t.Run("the API server takes it", func(t *testing.T) {
		cfg := rest.AnonymousClientConfig(w.Kube.REST())
		cfg.BearerToken, cfg.CAData, cfg.CAFile = token, []byte(w.inside(t, account+"ca.crt")), ""
		core, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		self, err := core.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil || self.Status.UserInfo.Username != "system:serviceaccount:default:default" {
			t.Errorf("%v, %v", self, err)
		}
		if ns := w.inside(t, account+"namespace"); ns != "default" {
			t.Errorf("namespace %q", ns)
		}
	})
	t.Run("others see its audience", func(t *testing.T) {
		vault := w.inside(t, "/vault/token")
		if st := w.review(t, vault); st.Authenticated {
			t.Error("a token for vault is one for the API server")
		}
		if st := w.review(t, vault, "vault"); !st.Authenticated || len(st.Audiences) != 1 || st.Audiences[0] != "vault" {
			t.Errorf("%+v", st)
		}
	})
	t.Run("it is sealed on the flash", func(t *testing.T) { w.notInTheClear(t, token) })
	t.Run("offline reboot", func(t *testing.T) { w.reboot(t, pod, token) })
	t.Run("another node does not get it", func(t *testing.T) { w.askAsAnother(t, w.ready(t)) })
	t.Run("it ends with its pod", func(t *testing.T) {
		if _, err := w.Kube.Kubectl(t.Context(), "delete", "deployment", "web", "--wait=false"); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 60*time.Second, "the pod is gone and its token void", func() (bool, string) {
			list, err := w.cluster.Core.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
			if err != nil || len(list.Items) > 0 {
				return false, fmt.Sprint("pods ", len(list.Items), err)
			}
			st := w.review(t, token)
			return !st.Authenticated, st.Error
		})
	})
}

func (w *world) isThePods(t *testing.T, token string, pod *corev1.Pod) {
	st := w.review(t, token)
	extra := func(name string) string {
		return strings.Join(st.User.Extra["authentication.kubernetes.io/"+name], ",")
	}
	if !st.Authenticated || st.User.Username != "system:serviceaccount:default:default" ||
		extra("pod-name") != pod.Name || extra("pod-uid") != string(pod.UID) || extra("node-name") != w.Node {
		t.Errorf("%+v; the pod is %s %s", st, pod.Name, pod.UID)
	}
	host := w.volume(t, pod)
	info, err := os.Stat(filepath.Join(host, "token"))
	if err != nil {
		t.Fatal(err)
	}
	var s unix.Stat_t
	if err := unix.Stat(filepath.Join(host, "token"), &s); err != nil || info.Mode().Perm() != 0o640 || s.Uid != 1000 || s.Gid != 2000 {
		t.Errorf("mode %o of %d:%d, %v; want 640 of 1000:2000", info.Mode().Perm(), s.Uid, s.Gid, err)
	}
	var f unix.Statfs_t
	if err := unix.Statfs(host, &f); err != nil || f.Type != unix.TMPFS_MAGIC {
		t.Errorf("the volume is of type %x, %v; want tmpfs", f.Type, err)
	}
}

// volume returns where the pod's own token is on the gateway.
func (w *world) volume(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.AgentData(), "pods", string(pod.UID), "volumes", "kubernetes.io~projected", "kube-api-access-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

// notInTheClear looks for a token in all that the agent has written to its disk.
func (w *world) notInTheClear(t *testing.T, token string) {
	files := 0
	err := filepath.WalkDir(filepath.Join(w.AgentData(), "store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files++
		if bytes.Contains(b, []byte(token[len(token)/2:])) {
			t.Errorf("the token is in %s", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
}

// reboot does what a power cut does: everything of the pod but the store is gone. There is no relay afterwards.
func (w *world) reboot(t *testing.T, pod *corev1.Pod, token string) {
	if err := w.StopRelay(); err != nil {
		t.Fatal(err)
	}
	if err := w.KillAgent(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	boxes, err := w.Runtime.Client().ListPodSandbox(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range boxes {
		if err := errors.Join(w.Runtime.Client().StopPodSandbox(ctx, b.ID), w.Runtime.Client().RemovePodSandbox(ctx, b.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Unmount(w.volume(t, pod), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(ctx); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 40*time.Second, "the pod runs again, without a relay", func() (bool, string) {
		st, err := w.Status(ctx)
		if err != nil || len(st.Pods) != 1 {
			return false, fmt.Sprintf("%+v, %v", st.Pods, err)
		}
		return st.Pods[0].Ready == "1/1", fmt.Sprintf("%+v", st.Pods)
	})
	if again := w.inside(t, account+"token"); again != token {
		t.Error("another token than before")
	}
	if err := w.StartRelay(ctx); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 40*time.Second, "the agent is connected", func() (bool, string) {
		st, err := w.Status(ctx)
		return err == nil && st.Link.InSync, fmt.Sprintf("%+v, %v", st.Link, err)
	})
}

// askAsAnother plays a second gateway, which asks for the token of the first one's pod.
func (w *world) askAsAnother(t *testing.T, pod *corev1.Pod) {
	ask := w.gateway(t, "gw-2")
	key := wire.NewKey(wire.KindPod, pod.Namespace, pod.Name, string(pod.UID))
	for name, c := range map[string]struct {
		r    cloud.TokenRequest
		code cloud.Code
	}{
		"a pod of another node": {cloud.TokenRequest{Pod: key, ServiceAccount: "default", ExpirationSeconds: 3607}, cloud.CodeNotYours},
		"no pod":                {cloud.TokenRequest{Pod: "pods/kube-system/x/y", ServiceAccount: "default", ExpirationSeconds: 3607}, cloud.CodeNotYours},
	} {
		token, err := ask(c.r)
		if r, ok := errors.AsType[*cloud.Refusal](err); !ok || r.Code != c.code {
			t.Errorf("%s: %v, %v", name, token, err)
		}
	}
	log, err := os.ReadFile(filepath.Join(w.Dir, "logs", "relay.log"))
	if err != nil || !strings.Contains(string(log), "refused a service account token") || !strings.Contains(string(log), "node=gw-2") {
		t.Errorf("the relay does not say who asked: %v", err)
	}
}

// gateway joins as a node, opens a session, and returns how to ask for tokens in it.
func (w *world) gateway(t *testing.T, node string) func(cloud.TokenRequest) (cloud.Token, error) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "skerryd.yaml")
	text := fmt.Sprintf(`{"node":{"name":%q},"relay":{"addresses":[%q]},"dataDir":%q,"socket":%q}`, node, w.RelayAt, filepath.Join(dir, "data"), filepath.Join(dir, "s"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	token, err := w.Ctl(t.Context(), "token", "create", "--node", node)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Skerryd(t.Context(), "join", "-config", config, "-token", strings.TrimSpace(token)); err != nil {
		t.Fatal(err)
	}
	id, err := identity.Load(filepath.Join(dir, "data", "identity"))
	if err != nil {
		t.Fatal(err)
	}
	c := link.New(link.Options{Addresses: []string{w.RelayAt}, TLS: id.TLSConfig, Node: node, Version: "test", Desired: linktest.NewStore()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the link: %v", err)
		}
	})
	stacktest.Eventually(t, 20*time.Second, node+" is connected", func() (bool, string) { return c.Status().InSync, fmt.Sprintf("%+v", c.Status()) })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.Dial(ctx, cloud.Service) }}
	t.Cleanup(transport.CloseIdleConnections)
	return func(r cloud.TokenRequest) (cloud.Token, error) {
		b, err := json.Marshal(r)
		if err != nil {
			return cloud.Token{}, err
		}
		resp, err := (&http.Client{Transport: transport}).Post("http://relay"+cloud.TokenPath, "application/json", bytes.NewReader(b))
		if err != nil {
			return cloud.Token{}, err
		}
		defer resp.Body.Close()
		return cloud.ReadTokenAnswer(resp.StatusCode, resp.Body)
	}
}
