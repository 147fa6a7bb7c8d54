//go:build integration

package relay

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

// lifetime is that of certificates in this file's tests.
const lifetime = 12 * time.Second

// gateway is a real agent, without pods, that has joined.
type gateway struct {
	t      *testing.T
	name   string
	dir    string
	config string
	agent  *process.Process
}

func joinGateway(t *testing.T, name, listen string) *gateway {
	t.Helper()
	g := &gateway{t: t, name: name, dir: t.TempDir()}
	g.config = filepath.Join(g.dir, "skerryd.yaml")
	doc, err := json.Marshal(map[string]any{
		"node":    map[string]any{"name": name},
		"relay":   map[string]any{"addresses": []string{listen}, "heartbeat": "1s", "maxBackoff": "1s"},
		"dataDir": filepath.Join(g.dir, "data"), "pods": map[string]any{"enabled": false},
		"metrics": map[string]any{"address": ""}, "socket": filepath.Join(g.dir, "s.sock"),
	})
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(g.dir, "token")
	for path, text := range map[string]string{g.config: string(doc), token: g.run("skerryctl", "token", "create", "--node", name)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.run("skerryd", "join", "-config", g.config, "-token-file", token)
	t.Cleanup(func() {
		if g.agent != nil {
			_ = g.agent.Kill()
			if t.Failed() {
				t.Logf("skerryd %s:\n%s", name, g.agent.LogTail(60))
			}
		}
	})
	return g
}

func (g *gateway) run(name string, args ...string) string {
	g.t.Helper()
	out, err := process.Output(g.t.Context(), process.Spec{Path: bin(name), Args: args, Env: []string{"KUBECONFIG=" + cluster.Kubeconfig()}})
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *gateway) start() {
	g.t.Helper()
	var err error
	g.agent, err = process.Start(process.Spec{Path: bin("skerryd"), Args: []string{"run", "-config", g.config}, Log: filepath.Join(g.dir, "skerryd.log")})
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) stop() {
	g.t.Helper()
	if err := g.agent.Stop(); err != nil {
		g.t.Error(err)
	}
}

func (g *gateway) status() (s agent.Status, err error) {
	out, err := process.Output(g.t.Context(), process.Spec{Path: bin("skerryd"), Args: []string{"status", "-config", g.config, "-o", "json"}})
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// until polls the agent's status; the error says why it is not yet so.
func (g *gateway) until(what string, ok func(agent.Status) bool) agent.Status {
	g.t.Helper()
	var last string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		s, err := g.status()
		if err == nil && ok(s) {
			return s
		}
		last = fmt.Sprintf("%v; link %+v; certificate %+v", err, s.Link, s.Certificate)
	}
	g.t.Fatalf("%s: after a minute it is not so that %s: %s", g.name, what, last)
	return agent.Status{}
}

// expires waits until the certificate on the gateway's disk has ended.
func (g *gateway) expires() {
	g.t.Helper()
	id, err := identity.Load(filepath.Join(g.dir, "data", "identity"))
	if err != nil {
		g.t.Fatal(err)
	}
	if left := time.Until(id.NotAfter()); left > lifetime {
		g.t.Fatalf("the certificate is good for %v, the relay is told to give %v", left, lifetime)
	}
	time.Sleep(time.Until(id.NotAfter()) + time.Second)
}

func connected(s agent.Status) bool { return s.Link.Connected && s.Link.InSync }

func startShortRelay(t *testing.T, listen string) *relayProcess {
	t.Helper()
	dir := t.TempDir()
	config, web := filepath.Join(dir, "relay.yaml"), freeAddress(t)
	if err := os.WriteFile(config, []byte("enroll: {certificateLifetime: "+lifetime.String()+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := process.Start(process.Spec{
		Path: bin("skerry-relay"), Log: filepath.Join(dir, "relay.log"), Grace: 6 * time.Second,
		Args: []string{"--config", config, "--kubeconfig", cluster.Kubeconfig(), "--listen", listen, "--metrics-address", web, "--name", "relay-renew"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		if t.Failed() {
			t.Logf("skerry-relay:\n%s", p.LogTail(60))
		}
	})
	r := &relayProcess{Process: p, web: web}
	r.answers(t, http.StatusOK, "ok")
	return r
}

// TestCertificatesRenewThemselves has a running agent renew within its session, and go on with what it got when that ends; one that was
// switched off until its certificate had expired come back by itself; and one that was revoked meanwhile stay out until it is restored.
func TestCertificatesRenewThemselves(t *testing.T) {
	if _, err := process.Output(t.Context(), process.Spec{Path: bin("skerryctl"), Args: []string{"init"}, Env: []string{"KUBECONFIG=" + cluster.Kubeconfig()}}); err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	relay := startShortRelay(t, listen)
	running, stored, revoked := joinGateway(t, "gw-running", listen), joinGateway(t, "gw-stored", listen), joinGateway(t, "gw-revoked", listen)
	for _, g := range []*gateway{running, stored, revoked} {
		g.start()
	}
	first := running.until("it is in sync", connected)
	stored.until("it is in sync", connected)
	revoked.until("it is in sync", connected)

	stored.stop()
	running.run("skerryctl", "node", "revoke", "gw-revoked", "--reason", "sold")
	revoked.until("its session has ended", func(s agent.Status) bool { return !s.Link.Connected })
	revoked.stop()
	// Looked at before anything is waited for: the session ends with its first certificate, soon after this.
	once := running.until("it has renewed", func(s agent.Status) bool { return s.Certificate.Renewed >= 1 })
	if ended := !time.Now().Before(first.Certificate.NotAfter); ended || first.Certificate.Renewed > 0 {
		t.Logf("the machine is too slow to see the session between renewal and the certificate's end")
	} else if once.Link.Sessions != first.Link.Sessions || once.Link.Epoch != first.Link.Epoch || !connected(once) {
		t.Errorf("renewing cost the session: %+v before, %+v afterwards", first.Link, once.Link)
	}
	revoked.expires()
	revoked.start()

	// The session ends with the certificate that it began with, and the agent comes again with the one that it has by then.
	twice := running.until("it has renewed twice", func(s agent.Status) bool {
		return s.Certificate.Renewed >= 2 && s.Link.Sessions >= 2 && connected(s)
	})
	if !twice.Certificate.NotAfter.After(first.Certificate.NotAfter) {
		t.Errorf("the certificate ended at %v, and now at %v", first.Certificate.NotAfter, twice.Certificate.NotAfter)
	}
	time.Sleep(time.Until(first.Certificate.NotAfter) + time.Second)
	relay.stops(t)
	relay = startShortRelay(t, listen)
	running.until("it has a session with a new certificate", func(s agent.Status) bool { return s.Link.Sessions > twice.Link.Sessions && connected(s) })

	stored.expires()
	stored.start()
	back := stored.until("it is in sync again", connected)
	if back.Certificate.Renewed == 0 || time.Until(back.Certificate.NotAfter) <= 0 {
		t.Errorf("it is back with the certificate %+v", back.Certificate)
	}

	out := revoked.until("it says why it cannot renew", func(s agent.Status) bool { return strings.Contains(s.Certificate.LastError, "node_revoked") })
	if out.Link.Connected || out.Link.Sessions > 0 || out.Certificate.Renewed > 0 {
		t.Errorf("a revoked node with an expired certificate: %+v %+v", out.Link, out.Certificate)
	}
	running.run("skerryctl", "node", "restore", "gw-revoked", "--trust-old-key")
	revoked.until("it is in sync after it was restored", connected)
	for _, g := range []*gateway{running, stored, revoked} {
		g.stop()
	}
	relay.stops(t)
}
