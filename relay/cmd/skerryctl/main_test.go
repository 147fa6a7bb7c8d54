package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extfake "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/fake"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/api/devices/v1beta1"
	"github.com/skerry/skerry/relay/enroll"
)

// newClients returns fakes of an empty cluster, whose CRDs are established as soon as they are created.
func newClients() *clients {
	ext := extfake.NewClientset()
	ext.PrependReactor("create", "customresourcedefinitions", func(a ktesting.Action) (bool, runtime.Object, error) {
		crd := a.(ktesting.CreateAction).GetObject().(*apiextensionsv1.CustomResourceDefinition)
		crd.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
		return false, nil, nil
	})
	dyn := dynfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		v1beta1.Resource("devices"): "DeviceList", v1beta1.Resource("devicestatuses"): "DeviceStatusList",
	})
	return &clients{core: fake.NewClientset(), ext: ext, dyn: dyn}
}

func ctl(t *testing.T, c *clients, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs, func(string, string) (*clients, error) { return c, nil })
	return code, out.String(), errs.String()
}

func must(t *testing.T, c *clients, args ...string) (stdout, stderr string) {
	t.Helper()
	code, stdout, stderr := ctl(t, c, args...)
	if code != 0 {
		t.Fatalf("skerryctl %v = %d: %s", args, code, stderr)
	}
	return stdout, stderr
}

func TestInitTwice(t *testing.T) {
	c := newClients()
	first, _ := must(t, c, "init")
	if strings.Count(first, "created ") != 14 || strings.Contains(first, "unchanged") {
		t.Errorf("the first init:\n%s", first)
	}
	second, _ := must(t, c, "init")
	if strings.Count(second, "unchanged ") != 14 || strings.Contains(second, "created") {
		t.Errorf("the second init:\n%s", second)
	}
}

func TestTokenCreatePrintsTheTokenAlone(t *testing.T) {
	c := newClients()
	must(t, c, "init")
	out, explanation := must(t, c, "token", "create", "--node", "gw-1", "--ttl", "1h")
	tok, err := join.ParseToken(strings.TrimSuffix(out, "\n"))
	if err != nil || tok.Node != "gw-1" || strings.Count(out, "\n") != 1 {
		t.Fatalf("stdout %q: %v", out, err)
	}
	if !strings.Contains(explanation, `gateway "gw-1"`) || strings.Contains(explanation, "skt1.") {
		t.Errorf("stderr = %q", explanation)
	}
	out, _ = must(t, c, "token", "create", "--node", "gw-2", "-o", "json")
	var asJSON struct{ ID, Node, Token string }
	if err := json.Unmarshal([]byte(out), &asJSON); err != nil || asJSON.Node != "gw-2" {
		t.Fatalf("%s: %v", out, err)
	}
	if tok, err := join.ParseToken(asJSON.Token); err != nil || tok.ID != asJSON.ID {
		t.Errorf("token in JSON: %v", err)
	}
	list, _ := must(t, c, "token", "list")
	if !strings.Contains(list, "gw-1") || !strings.Contains(list, "unused") || strings.Count(list, "\n") != 3 {
		t.Errorf("list:\n%s", list)
	}
	must(t, c, "token", "delete", asJSON.ID)
	list, _ = must(t, c, "token", "list", "-o", "json")
	if strings.Contains(list, "gw-2") || !strings.Contains(list, "gw-1") {
		t.Errorf("list after delete:\n%s", list)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"before init":  {[]string{"token", "create", "--node", "gw-1"}, "run `skerryctl init`"},
		"no node":      {[]string{"token", "create"}, "--nodes FILE"},
		"bad format":   {[]string{"status", "-o", "xml"}, "text and json"},
		"unknown verb": {[]string{"frobnicate"}, "unknown command"},
		"unknown id":   {[]string{"token", "delete", "zzz"}, "skerryctl token list"},
	} {
		code, stdout, stderr := ctl(t, newClients(), c.args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
	c := newClients()
	must(t, c, "init")
	for _, args := range [][]string{{"--node", "GW 1"}, {"--node", "gw-1", "--ttl", "9000h"}, {"--node", "gw-1", "--ttl", "0s"}} {
		if code, _, stderr := ctl(t, c, append([]string{"token", "create"}, args...)...); code != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("token create %v = %d, %q", args, code, stderr)
		}
	}
	c.dyn.(*dynfake.FakeDynamicClient).PrependReactor("list", "devices", func(ktesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(schema.GroupResource{Group: v1beta1.GroupName, Resource: "devices"}, "")
	})
	if code, _, stderr := ctl(t, c, "status"); code != 1 || !strings.Contains(stderr, "skerryctl init") {
		t.Errorf("status without CRDs = %d, %q", code, stderr)
	}
}

func TestExplain(t *testing.T) {
	refused := &url.Error{Op: "Get", URL: "https://10.0.0.1:6443/api/v1/nodes?x=y", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}}
	got := explain(fmt.Errorf("list Nodes: %w", refused))
	if !strings.HasPrefix(got, "the Kubernetes API at https://10.0.0.1:6443 cannot be reached (connect: connection refused)") {
		t.Errorf("unreachable: %s", got)
	}
	gr := schema.GroupResource{Resource: "secrets"}
	if got := explain(apierrors.NewForbidden(gr, "x", errors.New("no"))); !strings.Contains(got, "administrator") {
		t.Errorf("forbidden: %s", got)
	}
	if got := explain(fmt.Errorf("create: %w", apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, enroll.Namespace))); !strings.Contains(got, "skerryctl init") {
		t.Errorf("no namespace: %s", got)
	}
	if got := explain(errors.New("plain")); got != "plain" {
		t.Errorf("plain: %s", got)
	}
}

// An address that nothing listens on, through the real client stack.
func TestUnreachableCluster(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cfg := t.TempDir() + "/config"
	writeKubeconfig(t, cfg, "https://"+addr)
	for _, args := range [][]string{{"init"}, {"status"}, {"token", "list"}, {"token", "create", "--node", "gw-1"}} {
		var out, errs bytes.Buffer
		start := time.Now()
		code := run(t.Context(), append(args, "--kubeconfig", cfg), &out, &errs, connect)
		if code != 1 || !strings.Contains(errs.String(), "the Kubernetes API at https://"+addr+" cannot be reached") || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("%v = %d: %s", args, code, errs.String())
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%v took %s to say so", args, d)
		}
	}
}
