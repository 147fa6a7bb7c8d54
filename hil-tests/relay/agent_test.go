//go:build integration

package relay

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// TestAgentThroughTheRelay joins a real agent (without pods) and sees its node's Lease claimed, its device judged, and its session in
// /statusz.
func TestAgentThroughTheRelay(t *testing.T) {
	env := []string{"KUBECONFIG=" + cluster.Kubeconfig()}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := process.Output(t.Context(), process.Spec{Path: bin(name), Args: args, Env: env})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("skerryctl", "init")
	listen := freeAddress(t)
	relay := startRelay(t, cluster.Kubeconfig(), listen, freeAddress(t))
	relay.answers(t, http.StatusOK, "ok")

	dir := t.TempDir()
	config, token := filepath.Join(dir, "skerryd.yaml"), filepath.Join(dir, "token")
	doc, err := json.Marshal(map[string]any{
		"node": map[string]any{"name": "gw-e2e"}, "relay": map[string]any{"addresses": []string{listen}},
		"dataDir": filepath.Join(dir, "data"), "pods": map[string]any{"enabled": false},
		"metrics": map[string]any{"address": ""}, "socket": filepath.Join(dir, "s.sock"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{config: string(doc), token: run("skerryctl", "token", "create", "--node", "gw-e2e")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("skerryd", "join", "-config", config, "-token-file", token)
	agent, err := process.Start(process.Spec{Path: bin("skerryd"), Args: []string{"run", "-config", config}, Log: filepath.Join(dir, "skerryd.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Kill()
		if t.Failed() {
			t.Logf("skerryd:\n%s\nskerry-relay:\n%s", agent.LogTail(60), relay.LogTail(60))
		}
	})
	eventually(t, "lease/gw-e2e", ".metadata.annotations.skerry\\.dev/relay", "relay-t", "-n", "kube-node-lease")
	apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: devices-e2e}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: pump, namespace: devices-e2e}
spec:
  nodeName: gw-e2e
  deviceModelRef: {name: missing-model}
  protocol: {protocolName: modbus, configData: {ip: 127.0.0.1, port: 1, slaveID: 1}}
`)
	eventually(t, "device/pump", `.status.conditions[?(@.type=="Ready")].status`, "False", "-n", "devices-e2e")
	if reason := field(t, "device/pump", `.status.conditions[?(@.type=="Valid")].reason`, "-n", "devices-e2e"); reason != "ModelNotFound" {
		t.Errorf("the reason is %q", reason)
	}
	eventually(t, "events", ".items[0].reason", "ModelNotFound", "-n", "devices-e2e")

	resp, err := http.Get("http://" + relay.web + "/statusz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Ready    bool
		Sessions []struct {
			Node            string
			Objects, Report int
		}
	}
	if err := json.Unmarshal(text, &status); err != nil || !status.Ready || len(status.Sessions) != 1 ||
		status.Sessions[0].Node != "gw-e2e" || status.Sessions[0].Objects < 2 {
		t.Errorf("status is %s (%v)", text, err)
	}
	if err := agent.Stop(); err != nil {
		t.Error(err)
	}
	relay.stops(t)
}
