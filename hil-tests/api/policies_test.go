//go:build integration

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/setup"
)

const inside = "policed"

// asRelay is a client with a token of the relay's ServiceAccount, with the rights that setup has granted it.
func asRelay(t *testing.T, admin kubernetes.Interface) kubernetes.Interface {
	t.Helper()
	token, err := admin.CoreV1().ServiceAccounts(enroll.Namespace).CreateToken(t.Context(), setup.ServiceAccount, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(cluster.REST())
	cfg.BearerToken, cfg.QPS, cfg.Burst = token.Status.Token, 200, 400
	relay, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return relay
}

// stage makes a namespace, a node, two service accounts and a pod of one of them that is bound to the node.
func stage(t *testing.T, admin kubernetes.Interface) *corev1.Pod {
	t.Helper()
	core := admin.CoreV1()
	if _, err := core.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: inside}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := core.Namespaces().Delete(context.Background(), inside, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"web", "admin"} {
		if _, err := core.ServiceAccounts(inside).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := core.Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gw-p"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := core.Nodes().Delete(context.Background(), "gw-p", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return bound(t, admin, "web")
}

// bound makes a pod that is bound to the node.
func bound(t *testing.T, admin kubernetes.Interface, name string) *corev1.Pod {
	t.Helper()
	pod, err := admin.CoreV1().Pods(inside).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}, Annotations: map[string]string{"note": "n"}},
		Spec: corev1.PodSpec{
			NodeName: "gw-p", ServiceAccountName: "web", Containers: []corev1.Container{{Name: "c", Image: "app:1"}},
			Tolerations: []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpExists}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// denied reports whether an admission policy of ours has refused a request, and fails the test if something else has.
func denied(t *testing.T, what string, err error) bool {
	t.Helper()
	switch {
	case err == nil:
		return false
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+setup.ServiceAccount):
		return true
	}
	t.Errorf("%s: refused, and not by the policy: %v", what, err)
	return true
}

// TestPoliciesHoldTheRelay asks as the relay's account for what a relay needs, and for what somebody would who has taken it over.
func TestPoliciesHoldTheRelay(t *testing.T) {
	prepared(t)
	admin, _, _ := clients(t)
	relay := asRelay(t, admin)
	pod := stage(t, admin)
	awaitPolicies(t, relay)
	t.Run("patch", func(t *testing.T) { patches(t, relay, pod) })
	t.Run("create", func(t *testing.T) { creations(t, admin, relay) })
	t.Run("delete", func(t *testing.T) { deletions(t, admin, relay) })
	t.Run("tokens", func(t *testing.T) { tokens(t, relay, pod) })
	t.Run("others", func(t *testing.T) {
		// The policies are about the relay alone.
		if _, err := admin.CoreV1().Pods(inside).Patch(t.Context(), pod.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"by":"admin"}}}`), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	})
	for _, p := range setup.Policies() {
		have, err := admin.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(t.Context(), p.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if have.Status.TypeChecking != nil && len(have.Status.TypeChecking.ExpressionWarnings) > 0 {
			t.Errorf("%s: %+v", p.Name, have.Status.TypeChecking.ExpressionWarnings)
		}
	}
}

// awaitPolicies waits until the API server has read the policies, each by a request that it refuses.
func awaitPolicies(t *testing.T, relay kubernetes.Interface) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		_, pods := relay.CoreV1().Pods(inside).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "a"}}}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		_, tokens := relay.CoreV1().ServiceAccounts(inside).CreateToken(t.Context(), "web", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if apierrors.IsForbidden(pods) && apierrors.IsForbidden(tokens) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the policies are not in force: %v, %v", pods, tokens)
		}
	}
}

func patches(t *testing.T, relay kubernetes.Interface, pod *corev1.Pod) {
	away := func(list ...string) string {
		own, err := json.Marshal(pod.Spec.Tolerations)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"metadata":{"uid":%q},"spec":{"tolerations":[%s]}}`, pod.UID, strings.Join(append(list, strings.Trim(string(own), "[]")), ","))
	}
	for _, c := range []struct {
		name, patch string
		may         bool
		sub         []string
	}{
		{"a change of an image", `{"spec":{"containers":[{"name":"c","image":"evil:1"}]}}`, false, nil},
		{"an image beside tolerations", strings.TrimSuffix(away(`{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute"}`), "}}") + `,"containers":[{"name":"c","image":"evil:1"}]}}`, false, nil},
		{"a deadline", `{"spec":{"activeDeadlineSeconds":1}}`, false, nil},
		{"a label", `{"metadata":{"labels":{"app":"bank"}}}`, false, nil},
		{"a label taken away", `{"metadata":{"labels":null}}`, false, nil},
		{"an annotation", `{"metadata":{"annotations":{"note":"other"}}}`, false, nil},
		{"an owner", fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"gw-p","uid":%q}]}}`, pod.UID), false, nil},
		{"a finalizer", `{"metadata":{"finalizers":["example.org/mine"]}}`, false, nil},
		{"a toleration of everything", away(`{"operator":"Exists"}`), false, nil},
		{"a toleration of another taint", away(`{"key":"node.kubernetes.io/disk-pressure","operator":"Exists","effect":"NoExecute"}`), false, nil},
		{"a toleration that lets it be scheduled", away(`{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoSchedule"}`), false, nil},
		{"tolerations of nodes that are away", away(`{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute"}`, `{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":600}`), true, nil},
		{"a status", `{"status":{"message":"m","conditions":[{"type":"Ready","status":"False"}]}}`, true, []string{"status"}},
	} {
		_, err := relay.CoreV1().Pods(inside).Patch(t.Context(), pod.Name, types.StrategicMergePatchType, []byte(c.patch), metav1.PatchOptions{}, c.sub...)
		if denied(t, c.name, err) == c.may {
			t.Errorf("%s: allowed %v, want %v: %v", c.name, !c.may, c.may, err)
		}
	}
}

func creations(t *testing.T, admin, relay kubernetes.Interface) {
	node, err := admin.CoreV1().Nodes().Get(t.Context(), "gw-p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mirror := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "dns-gw-p", Annotations: map[string]string{"kubernetes.io/config.mirror": "h", "kubernetes.io/config.hash": "h", "kubernetes.io/config.source": "file"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: ptr.To(true)}}},
			Spec: corev1.PodSpec{NodeName: node.Name, HostNetwork: true,
				InitContainers: []corev1.Container{{Name: "i", Image: "a"}},
				Containers:     []corev1.Container{{Name: "c", Image: "a", Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "N", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}}},
				Volumes:        []corev1.Volume{{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}}}},
		}
	}
	from := func(src corev1.EnvVarSource) []corev1.EnvVar { return []corev1.EnvVar{{Name: "A", ValueFrom: &src}} }
	name := corev1.LocalObjectReference{Name: "x"}
	bad := map[string]func(p *corev1.Pod){
		"an ordinary pod":            func(p *corev1.Pod) { p.Annotations, p.OwnerReferences = nil, nil },
		"a mirror that is not bound": func(p *corev1.Pod) { p.Spec.NodeName = "" },
		"a mirror bound elsewhere":   func(p *corev1.Pod) { p.Spec.NodeName = "gw-other" },
		"a mirror without an owner":  func(p *corev1.Pod) { p.OwnerReferences = nil },
		"a mirror of another owner":  func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "ConfigMap" },
		"a mirror with two owners": func(p *corev1.Pod) {
			o := p.OwnerReferences[0]
			o.Controller, o.Name = nil, "b"
			p.OwnerReferences = append(p.OwnerReferences, o)
		},
		"an owner that is blocked":   func(p *corev1.Pod) { p.OwnerReferences[0].BlockOwnerDeletion = ptr.To(true) },
		"an owner not in control":    func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil },
		"a mirror with pull secrets": func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{name} },
		"a mirror with a configMap": func(p *corev1.Pod) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name}}
		},
		"a mirror with a claim": func(p *corev1.Pod) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}
		},
		"a mirror with an NFS volume": func(p *corev1.Pod) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}
		},
		"a variable of a configMap": func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name, Key: "k"}})
		},
		"variables of a configMap": func(p *corev1.Pod) {
			p.Spec.InitContainers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name}}}
		},
	}
	pods := relay.CoreV1().Pods(inside)
	for _, what := range slices.Sorted(maps.Keys(bad)) {
		p := mirror()
		bad[what](p)
		_, err := pods.Create(t.Context(), p, metav1.CreateOptions{})
		if err == nil {
			t.Errorf("%s: allowed", what)
		} else if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) { // some are refused by Kubernetes itself before
			t.Errorf("%s: %v", what, err)
		}
	}
	// What Kubernetes' own admission refuses already, of service accounts and secrets, the policy need not.
	if _, err := pods.Create(t.Context(), mirror(), metav1.CreateOptions{}); err != nil {
		t.Errorf("the mirror of a static pod: %v", err)
	}
	if err := pods.Delete(t.Context(), "dns-gw-p", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}); err != nil {
		t.Errorf("the mirror's deletion: %v", err)
	}
}

func deletions(t *testing.T, admin, relay kubernetes.Interface) {
	bound(t, admin, "stays")
	zero := metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}
	pods := relay.CoreV1().Pods(inside)
	if err := pods.Delete(t.Context(), "stays", zero); !denied(t, "a pod that nobody has deleted", err) {
		t.Error("a pod that nobody has deleted is gone")
	}
	if err := admin.CoreV1().Pods(inside).Delete(t.Context(), "stays", metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(600))}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), "stays", zero); err != nil {
		t.Errorf("a pod that somebody has deleted: %v", err)
	}
}

func tokens(t *testing.T, relay kubernetes.Interface, pod *corev1.Pod) {
	to := func(kind string, uid types.UID) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: pod.Name, UID: uid}
	}
	for _, c := range []struct {
		name    string
		account string
		spec    authenticationv1.TokenRequestSpec
		may     bool
	}{
		{"bound to nothing", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600))}, false},
		{"of an administrator, bound to nothing", "admin", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600))}, false},
		{"bound to a secret", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600)), BoundObjectRef: to("Secret", pod.UID)}, false},
		{"bound to a node", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600)), BoundObjectRef: to("Node", pod.UID)}, false},
		{"bound to a pod without its UID", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600)), BoundObjectRef: to("Pod", "")}, false},
		{"for too long", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(1 << 32)), BoundObjectRef: to("Pod", pod.UID)}, false},
		{"bound to the pod", "web", authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3607)), Audiences: []string{"vault"}, BoundObjectRef: to("Pod", pod.UID)}, true},
	} {
		_, err := relay.CoreV1().ServiceAccounts(inside).CreateToken(t.Context(), c.account, &authenticationv1.TokenRequest{Spec: c.spec}, metav1.CreateOptions{})
		if denied(t, "a token "+c.name, err) == c.may {
			t.Errorf("a token %s: allowed %v, want %v: %v", c.name, !c.may, c.may, err)
		}
	}
	// That the pod is the account's own, the API server sees to.
	_, err := relay.CoreV1().ServiceAccounts(inside).CreateToken(t.Context(), "admin", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(3600)), BoundObjectRef: to("Pod", pod.UID)}}, metav1.CreateOptions{})
	if err == nil {
		t.Error("a token of an account that is not the pod's was made")
	}
}
