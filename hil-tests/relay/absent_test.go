//go:build integration

package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// This file is the first of the folder in the alphabet, so that its tests meet the cluster as it was made: without CRDs and CA.

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

type relayProcess struct {
	*process.Process
	web string
}

func startRelay(t *testing.T, kubeconfig, listen, web string) *relayProcess {
	t.Helper()
	p, err := process.Start(process.Spec{
		Path: bin("skerry-relay"), Log: filepath.Join(t.TempDir(), "relay.log"), Grace: 6 * time.Second,
		Args: []string{"--kubeconfig", kubeconfig, "--listen", listen, "--metrics-address", web, "--name", "relay-t"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return &relayProcess{Process: p, web: web}
}

// answers waits until /readyz answers with status and a text that contains want.
func (r *relayProcess) answers(t *testing.T, status int, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err := process.WaitReady(ctx, r.Process, "the relay says "+want, nil, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.web+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || !strings.Contains(string(text), want) {
			return fmt.Errorf("it answers %d %s", resp.StatusCode, text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *relayProcess) stops(t *testing.T) {
	t.Helper()
	begin := time.Now()
	if err := r.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

func TestRelayWaitsForWhatIsMissing(t *testing.T) {
	if out, err := cluster.Kubectl(t.Context(), "get", "crd", "devices.devices.kubeedge.io"); err == nil {
		t.Fatalf("the cluster is not bare any more: run this test first\n%s", out)
	}
	r := startRelay(t, cluster.Kubeconfig(), freeAddress(t), freeAddress(t))
	r.answers(t, http.StatusServiceUnavailable, "the cluster has no Skerry CA")
	if _, err := process.Output(t.Context(), process.Spec{Path: bin("skerryctl"), Args: []string{"init"}, Env: []string{"KUBECONFIG=" + cluster.Kubeconfig()}}); err != nil {
		t.Fatal(err)
	}
	r.answers(t, http.StatusOK, "ok") // without a restart
	if log := r.LogTail(100); strings.Count(log, "run `skerryctl init`") < 2 {
		t.Errorf("CRDs and CA are not both explained:\n%s", log)
	}

	// A second relay on the same ports ends, and says which.
	for _, ports := range [][2]string{{"127.0.0.1:0", r.web}, {listenOf(t, r), "127.0.0.1:0"}} {
		second := startRelay(t, cluster.Kubeconfig(), ports[0], ports[1])
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := second.Wait(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with %v in use it ends with %v", ports, err)
		}
		cancel()
		if log := second.LogTail(10); !strings.Contains(log, "address already in use") || !strings.Contains(log, "stop what uses it") {
			t.Errorf("with %v in use it says:\n%s", ports, log)
		}
	}
	r.stops(t)
}

// listenOf reads the address that agents use off the relay's log.
func listenOf(t *testing.T, r *relayProcess) string {
	t.Helper()
	_, rest, ok := strings.Cut(r.LogTail(200), "listen=")
	if !ok {
		t.Fatal("the log does not say where the relay listens")
	}
	addr, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(addr)
}

func TestRelayOutlivesAnAPIServerThatIsAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
		"clusters":[{"name":"x","cluster":{"server":"http://` + freeAddress(t) + `"}}],"users":[{"name":"x","user":{}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, path, freeAddress(t), freeAddress(t))
	r.answers(t, http.StatusServiceUnavailable, "connection refused")
	time.Sleep(2 * time.Second)
	if log := r.LogTail(100); strings.Count(log, "\n") > 25 {
		t.Errorf("two seconds without an API server fill the log:\n%s", log)
	}
	r.stops(t)
}
