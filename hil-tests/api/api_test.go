//go:build integration

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/rig/controlplane"
	"github.com/skerry/skerry/relay/api/crds"
	"github.com/skerry/skerry/relay/api/devices/v1beta1"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
	"github.com/skerry/skerry/relay/setup"
)

// cluster is one control plane, prepared, for all tests of this package.
var cluster *controlplane.ControlPlane

func TestMain(m *testing.M) { os.Exit(withCluster(m)) }

func withCluster(m *testing.M) int {
	bin := os.Getenv("SKERRY_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "build", "bin")
	}
	dir, err := os.MkdirTemp("", "skerry-api-test-")
	if err != nil {
		slog.Error("temporary folder", "error", err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), controlplane.StartTimeout)
	defer cancel()
	if cluster, err = controlplane.Start(ctx, controlplane.Options{Binary: filepath.Join(bin, "skerry-kube"), Dir: dir}); err != nil {
		slog.Error("control plane", "error", err)
		return 1
	}
	defer func() {
		if err := cluster.Kill(); err != nil {
			slog.Error("control plane", "error", err)
		}
	}()
	return m.Run()
}

func clients(t *testing.T) (kubernetes.Interface, apiextensions.Interface, dynamic.Interface) {
	t.Helper()
	cfg := cluster.REST()
	cfg.QPS, cfg.Burst = 200, 400
	core, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := apiextensions.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return core, ext, dyn
}

// prepared runs setup and returns what it did.
func prepared(t *testing.T) []setup.Step {
	t.Helper()
	core, ext, _ := clients(t)
	var steps []setup.Step
	if err := setup.Apply(t.Context(), core, ext, setup.Options{}, func(s setup.Step) { steps = append(steps, s) }); err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestInitIsIdempotent(t *testing.T) {
	prepared(t)
	for _, s := range prepared(t) {
		if s.Outcome != crds.Unchanged {
			t.Errorf("the second time, %s %s is %s", s.Kind, s.Name, s.Outcome)
		}
	}
	// What somebody changed by hand is put right.
	core, _, _ := clients(t)
	role, err := core.RbacV1().ClusterRoles().Get(t.Context(), setup.ServiceAccount, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = role.Rules[:1]
	if _, err := core.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range prepared(t) {
		if (s.Outcome == crds.Updated) != (s.Kind == "ClusterRole") {
			t.Errorf("after the role was changed, %s %s is %s", s.Kind, s.Name, s.Outcome)
		}
	}
}

// Every field of KubeEdge's types survives the API server: the documents are made from its types in hil-tests/contract/kubeedge.
func TestEveryKubeEdgeFieldSurvives(t *testing.T) {
	prepared(t)
	_, _, dyn := clients(t)
	for kind, resource := range map[string]string{"DeviceModel": "devicemodels", "Device": "devices", "DeviceStatus": "devicestatuses"} {
		t.Run(kind, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata", kind+".json"))
			if err != nil {
				t.Fatal(err)
			}
			want := new(unstructured.Unstructured)
			if err := want.UnmarshalJSON(b); err != nil {
				t.Fatal(err)
			}
			c := dyn.Resource(v1beta1.Resource(resource)).Namespace("default")
			strict := metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}
			got, err := c.Create(t.Context(), want, strict)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.Delete(context.Background(), want.GetName(), metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			})
			if kind == "Device" { // its status is a subresource: a manifest's is accepted and ignored
				if _, has := got.Object["status"]; has {
					t.Errorf("creating a Device stored its status: %v", got.Object["status"])
				}
				got.Object["status"] = want.Object["status"]
				if _, err := c.UpdateStatus(t.Context(), got, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
					t.Fatal(err)
				}
			}
			if got, err = c.Get(t.Context(), want.GetName(), metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"spec", "status"} {
				if diff := cmp.Diff(want.Object[part], got.Object[part]); diff != "" {
					t.Errorf("%s (-sent +stored):\n%s", part, diff)
				}
			}
		})
	}
}

const odd = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: odd, namespace: default}
spec:
  deviceModelRef: {name: none-yet}
  properties:
  - name: temp
    visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 2, big: 9007199254740993}}
  protocol: {protocolName: modbus}
status:
  reportToCloud: true
  twins: [{propertyName: temp, reported: {value: "1"}}]
`

// kubectl validates strictly. A manifest with KubeEdge's older status must pass all the same.
func TestOldManifestApplies(t *testing.T) {
	prepared(t)
	if out, err := cluster.Apply(t.Context(), odd); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := cluster.Kubectl(t.Context(), "get", "device", "odd", "-o", "jsonpath={.spec.properties[0].visitors.configData.big}")
	if err != nil || out != "9007199254740993" {
		t.Errorf("a large integer in configData reads back as %q, %v", out, err)
	}
	if out, err := cluster.Kubectl(t.Context(), "delete", "device", "odd"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	prepared(t)
	_, _, dyn := clients(t)
	for _, c := range []struct{ resource, text, says string }{
		{"devices", `{kind: Device, spec: {properties: [{name: temp}, {name: temp}]}}`, `spec.properties[1]: Duplicate value: {"name":"temp"}`},
		{"devices", `{kind: Device, spec: {properties: [{name: temp, collectCycle: -1}]}}`, "spec.properties[0].collectCycle"},
		{"devicemodels", `{kind: DeviceModel, spec: {properties: [{name: temp, type: INT, minimum: "2", maximum: "1"}]}}`, "minimum must not be greater than maximum"},
		{"devicemodels", `{kind: DeviceModel, spec: {properties: [{name: temp, type: int}]}}`, `supported values: "INT"`},
	} {
		doc := map[string]any{}
		if err := yaml.Unmarshal([]byte(c.text), &doc); err != nil {
			t.Fatal(err)
		}
		doc["apiVersion"], doc["metadata"] = "devices.kubeedge.io/v1beta1", map[string]any{"name": "bad"}
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		obj := new(unstructured.Unstructured)
		if err := obj.UnmarshalJSON(b); err != nil {
			t.Fatal(err)
		}
		_, err = dyn.Resource(v1beta1.Resource(c.resource)).Namespace("default").Create(t.Context(), obj, metav1.CreateOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want …%s…", c.text, err, c.says)
		}
	}
}

const shown = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: pump, namespace: default}
spec: {deviceModelRef: {name: pump-model}, nodeName: gw-1, protocol: {protocolName: modbus}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceStatus
metadata: {name: pump, namespace: default}
status:
  state: online
  lastOnlineTime: "2026-01-01T00:00:00Z"
  extensions: {summary: "speed=7"}
  twins: [{propertyName: speed, reported: {value: "7", metadata: {timestamp: "1767225600000"}}}]
`

func TestTables(t *testing.T) {
	prepared(t)
	core, _, dyn := clients(t)
	if out, err := cluster.Apply(t.Context(), shown); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	patch := `{"status":{"observedGeneration":1,"conditions":[{"type":"Ready","status":"False","reason":"PropertyNotInModel","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`
	if out, err := cluster.Kubectl(t.Context(), "patch", "device", "pump", "--subresource=status", "--type=merge", "-p", patch); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for what, want := range map[string][]string{
		"devices":        {"MODEL", "NODE", "PROTOCOL", "READY", "REASON", "AGE", "pump-model", "gw-1", "modbus", "False", "PropertyNotInModel"},
		"devicestatuses": {"STATE", "LAST ONLINE", "VALUES", "online", "speed=7"},
	} {
		out, err := cluster.Kubectl(t.Context(), "get", what)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("kubectl get %s lacks %q:\n%s", what, w, out)
			}
		}
	}
	o, err := overview.Gather(t.Context(), core, dyn, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := overview.Device{
		Namespace: "default", Name: "pump", Node: "gw-1", Ready: "False", Reason: "PropertyNotInModel", State: "online",
		Values: "speed=7", LastValue: time.UnixMilli(1767225600000).UTC(),
	}
	if len(o.Devices) != 1 || o.Devices[0] != want {
		t.Errorf("overview of the devices = %+v", o.Devices)
	}
	if out, err := cluster.Kubectl(t.Context(), "delete", "device/pump", "devicestatus/pump"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// The relay's account may do what the relay does, and not what it does not.
func TestRelaysRights(t *testing.T) {
	prepared(t)
	core, _, _ := clients(t)
	const devices = "devices.kubeedge.io"
	for _, c := range []struct {
		may                                bool
		verb, group, resource, sub, inside string
	}{
		{true, "watch", "", "pods", "", ""}, {true, "patch", "", "pods", "status", "default"}, {true, "delete", "", "pods", "", "default"},
		{true, "create", "", "nodes", "", ""}, {true, "patch", "", "nodes", "status", ""},
		{true, "list", "", "secrets", "", ""}, {true, "watch", "", "configmaps", "", ""},
		{true, "watch", "", "services", "", ""}, {true, "watch", "", "persistentvolumeclaims", "", ""}, {true, "list", "", "persistentvolumes", "", ""},
		{true, "watch", "node.k8s.io", "runtimeclasses", "", ""}, {false, "patch", "", "persistentvolumes", "", ""}, {false, "create", "", "services", "", "default"},
		{true, "patch", devices, "devices", "status", "default"}, {true, "create", devices, "devicestatuses", "", "default"},
		{true, "update", "coordination.k8s.io", "leases", "", "kube-node-lease"}, {true, "list", "coordination.k8s.io", "leases", "", "kube-node-lease"},
		{true, "create", "", "events", "", "default"},
		{true, "update", "", "secrets", "", enroll.Namespace},
		{false, "update", "", "secrets", "", "default"}, {false, "create", "", "secrets", "", enroll.Namespace}, {false, "delete", "", "secrets", "", enroll.Namespace},
		{true, "create", "", "pods", "", "default"}, // mirrors of static pods
		{false, "create", "", "pods", "exec", "default"}, {false, "update", "", "pods", "", "default"}, {true, "patch", "", "pods", "", "default"},
		{true, "create", "", "serviceaccounts", "token", "default"}, {false, "create", "", "serviceaccounts", "", "default"}, {false, "get", "", "serviceaccounts", "", "default"},
		{false, "delete", "", "nodes", "", ""}, {false, "patch", devices, "devices", "", "default"}, {false, "patch", devices, "devicemodels", "", "default"},
		{false, "update", "coordination.k8s.io", "leases", "", "kube-system"}, {false, "delete", "coordination.k8s.io", "leases", "", "kube-node-lease"},
		{false, "create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""}, {false, "impersonate", "", "users", "", ""},
	} {
		r, err := core.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + enroll.Namespace + ":" + setup.ServiceAccount,
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: c.verb, Group: c.group, Resource: c.resource, Subresource: c.sub, Namespace: c.inside,
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Status.Allowed != c.may {
			t.Errorf("the relay may %s %s/%s %s in %q: %v, want %v", c.verb, c.group, c.resource, c.sub, c.inside, r.Status.Allowed, c.may)
		}
	}
}

// Several gateways try one token at two relays at once: the real API server lets one bind it.
func TestTokenIsBoundOnce(t *testing.T) {
	prepared(t)
	core, _, _ := clients(t)
	ca, err := enroll.LoadCA(t.Context(), core)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for range 2 {
		cert, err := ca.IssueServing(nil)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewUnstartedServer(enroll.NewServer(enroll.Options{Client: core, CA: ca.Always, PerSource: 1000}))
		srv.TLS = ca.ServerTLS(cert)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		addresses = append(addresses, srv.Listener.Addr().String())
	}
	tok, _, err := enroll.NewTokens(core, nil).Create(t.Context(), ca, "gw-1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	const gateways = 6
	var (
		wg      sync.WaitGroup
		results [gateways]error
	)
	for i := range gateways {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		wg.Go(func() {
			_, results[i] = identity.Enroll(t.Context(), identity.EnrollOptions{
				Addresses: addresses[i%2 : i%2+1], Token: tok.String(), Node: "gw-1", Dir: dir,
			})
		})
	}
	wg.Wait()
	joined := 0
	for _, err := range results {
		var refusal *join.Refusal
		switch {
		case err == nil:
			joined++
		case !errors.As(err, &refusal) || refusal.Code != join.CodeUsed:
			t.Errorf("a gateway that came second got %v", err)
		}
	}
	if joined != 1 {
		t.Errorf("%d gateways joined with one token", joined)
	}
}
