//go:build integration

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/agent"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// gateway is one more agent, for devices only, in a folder of its own.
type gateway struct {
	node, dir, web string
	config         map[string]any
	process        *process.Process
}

// newGateway prepares an agent as the given node. It is stopped at the end of the test, and its Node is deleted.
func newGateway(t *testing.T, name string) *gateway {
	t.Helper()
	web, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{node: name, web: web}
	if err := os.MkdirAll(filepath.Join(w.Dir, "gateways"), 0o755); err != nil {
		t.Fatal(err)
	}
	if g.dir, err = os.MkdirTemp(filepath.Join(w.Dir, "gateways"), name+"-"); err != nil {
		t.Fatal(err)
	}
	// Paths of sockets are short, and the test's name is not.
	run, err := os.MkdirTemp("", "skerry-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	g.config = map[string]any{
		"node": map[string]any{"name": name}, "relay": map[string]any{"addresses": []string{w.RelayAt}, "maxBackoff": "1s"},
		"dataDir": filepath.Join(g.dir, "data"), "pods": map[string]any{"enabled": false, "logDir": filepath.Join(g.dir, "log")},
		"metrics": map[string]any{"address": web}, "socket": filepath.Join(run, "s"),
	}
	g.write(t)
	t.Cleanup(func() {
		if g.process != nil {
			if err := g.process.Stop(); err != nil {
				t.Error(err)
			}
		}
		_ = os.RemoveAll(run)
		_, _ = w.Kube.Kubectl(context.Background(), "delete", "node", name, "--ignore-not-found")
	})
	return g
}

func (g *gateway) file() string { return filepath.Join(g.dir, "skerryd.yaml") }

func (g *gateway) write(t *testing.T) {
	t.Helper()
	text, err := json.MarshalIndent(g.config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.file(), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// set changes keys of the configuration (JSON is YAML).
func (g *gateway) set(t *testing.T, keys map[string]any) {
	t.Helper()
	maps.Copy(g.config, keys)
	g.write(t)
}

// relay makes the address the only relay that the gateway knows.
func (g *gateway) relay(t *testing.T, address string) {
	t.Helper()
	g.set(t, map[string]any{"relay": map[string]any{"addresses": []string{address}, "maxBackoff": "1s"}})
}

func newToken(t *testing.T, node string, args ...string) string {
	t.Helper()
	token, err := w.Ctl(t.Context(), append([]string{"token", "create", "--node", node}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(token)
}

// join enrols the gateway. It returns all that the command said.
func (g *gateway) join(t *testing.T, token string, args ...string) (said string, err error) {
	t.Helper()
	return w.Skerryd(t.Context(), append([]string{"join", "-config", g.file(), "-token", token}, args...)...)
}

func (g *gateway) mustJoin(t *testing.T) {
	t.Helper()
	if _, err := g.join(t, newToken(t, g.node)); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) logFile() string { return filepath.Join(g.dir, "skerryd.log") }

func (g *gateway) start(t *testing.T) logMark {
	t.Helper()
	m := logMark{path: g.logFile()}
	if info, err := os.Stat(m.path); err == nil {
		m.from = info.Size()
	}
	p, err := process.Start(process.Spec{Name: "skerryd " + g.node, Path: filepath.Join(w.Bin, "skerryd"), Args: []string{"run", "-config", g.file()}, Log: g.logFile()})
	if err != nil {
		t.Fatal(err)
	}
	g.process = p
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = process.WaitReady(ctx, p, "the agent answers", nil, func(ctx context.Context) error {
		_, err := g.status(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (g *gateway) status(ctx context.Context) (st agent.Status, err error) {
	body, err := health.Fetch(ctx, g.config["socket"].(string))
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(body, &st)
}

// text is what `skerryd status` prints.
func (g *gateway) text(t *testing.T) string {
	t.Helper()
	out, err := w.Skerryd(t.Context(), "status", "-config", g.file())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (g *gateway) connected(t *testing.T) {
	t.Helper()
	stacktest.Eventually(t, 20*time.Second, g.node+" is connected and in sync", func() (bool, string) {
		st, err := g.status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return st.Link.Connected && st.Link.InSync, fmt.Sprintf("%+v", st.Link)
	})
}
