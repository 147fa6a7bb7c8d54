//go:build integration

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// oneMessage holds that what a command said is one line that has all the parts.
func oneMessage(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	contains(t, "the command", err.Error(), want...)
	if n := strings.Count(strings.TrimSpace(err.Error()), "\n"); n > 0 {
		t.Errorf("%d lines, one was due:\n%v", n+1, err)
	}
}

func TestBadToken(t *testing.T) {
	t.Run("cut off", func(t *testing.T) {
		g := newGateway(t, "gw-bad")
		token := newToken(t, g.node)
		_, err := g.join(t, token[:len(token)-7])
		oneMessage(t, err, `join as node "gw-bad"`, "the join token is incomplete or altered", "copy it again")
	})
	t.Run("not a token", func(t *testing.T) {
		g := newGateway(t, "gw-bad")
		_, err := g.join(t, "hunter2")
		oneMessage(t, err, "token", "skerryctl token create")
	})
	t.Run("deleted", func(t *testing.T) {
		g := newGateway(t, "gw-deleted")
		token := newToken(t, g.node)
		kubectl(t, "delete", "secret", "-n", "skerry-system", "-l", "skerry.dev/join-token=true")
		_, err := g.join(t, token)
		oneMessage(t, err, w.RelayAt, "the join token is not known", "skerryctl token create --node")
		recovers(t, g)
	})
	t.Run("expired", func(t *testing.T) {
		g := newGateway(t, "gw-late")
		token := newToken(t, g.node, "--ttl", "1s")
		time.Sleep(2 * time.Second)
		_, err := g.join(t, token)
		oneMessage(t, err, w.RelayAt, "expired at", "skerryctl token create --node gw-late")
		recovers(t, g)
	})
	t.Run("of another node", func(t *testing.T) {
		g := newGateway(t, "gw-mine")
		_, err := g.join(t, newToken(t, "gw-other"))
		oneMessage(t, err, `the token is for node "gw-other"`, `configured as node "gw-mine"`, "skerryctl token create --node gw-mine", "node.name")
		recovers(t, g)
	})
	t.Run("used by another key", func(t *testing.T) {
		first, second := newGateway(t, "gw-used"), newGateway(t, "gw-used")
		token := newToken(t, "gw-used")
		if _, err := first.join(t, token); err != nil {
			t.Fatal(err)
		}
		if _, err := first.join(t, token); err != nil {
			t.Errorf("the same gateway may use its token again: %v", err)
		}
		_, err := second.join(t, token)
		oneMessage(t, err, "was used by another key at", "skerryctl token create --node gw-used", "revoke")
	})
}

// recovers holds that a good token mends it.
func recovers(t *testing.T, g *gateway) {
	t.Helper()
	g.mustJoin(t)
	g.start(t)
	g.connected(t)
}

// notARelay is something at an address that is not a relay, until it is stopped.
type notARelay struct {
	name  string
	serve func(t *testing.T, l net.Listener)
	join  []string // what `skerryd join` says
	link  []string // what the agent's log says, once
}

func notRelays() []notARelay {
	hello := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "It works!") })
	return []notARelay{
		{"nothing", nil, []string{"cannot be reached", "connection refused", "check the address"},
			[]string{"does not answer (connection refused)", "the relay is not running, or the port is wrong"}},
		{"plain HTTP server", func(t *testing.T, l net.Listener) {
			s := &httptest.Server{Listener: l, Config: &http.Server{Handler: hello}}
			s.Start()
			t.Cleanup(s.Close)
		}, []string{"does not speak TLS", "check the port in relay.addresses"}, []string{"does not speak TLS", "not a Skerry relay", "check the address and the port"}},
		{"HTTPS server of somebody else", func(t *testing.T, l net.Listener) {
			s := &httptest.Server{Listener: l, Config: &http.Server{Handler: hello, ErrorLog: log.New(io.Discard, "", 0)}}
			s.StartTLS()
			t.Cleanup(s.Close)
		}, []string{"certificate that is not a relay's of the token's installation", "check that relay.addresses"}, []string{"its certificate is for other names", "not a Skerry relay of this installation; check the address and the port"}},
		{"server that says nothing", func(t *testing.T, l net.Listener) {
			var mu sync.Mutex
			var open []net.Conn
			t.Cleanup(func() {
				mu.Lock()
				defer mu.Unlock()
				for _, c := range open {
					_ = c.Close()
				}
			})
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					mu.Lock()
					open = append(open, c)
					mu.Unlock()
				}
			}()
		}, []string{"does not answer in time", "check the address"}, []string{"takes the connection and then says nothing", "not a Skerry relay, or it is overloaded"}},
		{"server that hangs up", func(t *testing.T, l net.Listener) {
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.Close()
				}
			}()
		}, []string{"gave up"}, []string{"closes the connection during the TLS handshake", "not a Skerry relay, or something between"}},
	}
}

func TestBadRelayAddress(t *testing.T) {
	for _, c := range notRelays() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := front(t)
			end := func() {}
			if c.serve != nil {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				address = l.Addr().String()
				c.serve(t, l)
				end = sync.OnceFunc(func() { _ = l.Close() })
				t.Cleanup(end)
			}
			name := stack.Unique("gw-lost")
			g := newGateway(t, name)
			token := newToken(t, name)
			g.relay(t, address)
			began := time.Now()
			_, err := g.join(t, token, "-timeout", "3s")
			if err == nil {
				t.Fatal("joined")
			}
			contains(t, "skerryd join", lastLine(err.Error()), append(c.join, address)...)
			if time.Since(began) > 8*time.Second {
				t.Errorf("it took %v to say so", time.Since(began))
			}
			g.relay(t, w.RelayAt)
			if _, err := g.join(t, token); err != nil {
				t.Fatal(err)
			}
			g.relay(t, address)
			mark := g.start(t)
			mark.once(t, append(c.link, address)...)
			contains(t, "skerryd status", g.text(t), append(c.link, "NOT CONNECTED", address)...)
			time.Sleep(4 * time.Second) // several attempts more
			mark.once(t, append(c.link, address)...)
			mark.atMost(t, 4)
			// The cause goes away: something leads to the relay now.
			end()
			forward(t, address, w.RelayAt)
			g.connected(t)
		})
	}
}

// front returns an address for a relay that is not there yet.
func front(t *testing.T) string {
	t.Helper()
	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// forward passes connections to another address until the end of the test.
func forward(t *testing.T, from, to string) {
	t.Helper()
	var l net.Listener
	stacktest.Eventually(t, 5*time.Second, "listen on "+from, func() (ok bool, saw string) {
		var err error
		l, err = net.Listen("tcp", from)
		return err == nil, fmt.Sprint(err)
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close() })
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = a.Close(), b.Close() })
			go func() { _, _ = io.Copy(a, b); _ = a.Close() }()
			go func() { _, _ = io.Copy(b, a); _ = b.Close() }()
		}
	}()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestNotJoinedYet(t *testing.T) {
	g := newGateway(t, "gw-new")
	mark := g.start(t)
	mark.once(t, "has not joined yet", "skerryd join", "skerryctl token create --node gw-new")
	time.Sleep(3 * time.Second)
	mark.atMost(t, 5)
	contains(t, "skerryd status", g.text(t), "NOT CONNECTED", "join")
	g.mustJoin(t) // while the agent runs
	g.connected(t)
}

func TestWrongNodeName(t *testing.T) {
	g := newGateway(t, "gw-right")
	g.mustJoin(t)
	g.set(t, map[string]any{"node": map[string]any{"name": "gw-wrong"}})
	_, err := w.Skerryd(t.Context(), "run", "-config", g.file())
	oneMessage(t, err, `node.name is "gw-wrong"`, `joined as "gw-right"`, `set node.name to "gw-right"`)
}

// TestStolenIdentity: of two agents with one certificate, the newest session wins; both logs say what that looks like.
func TestStolenIdentity(t *testing.T) {
	owner, thief := newGateway(t, "gw-twice"), newGateway(t, "gw-twice")
	long := map[string]any{"relay": map[string]any{"addresses": []string{w.RelayAt}, "maxBackoff": "20s"}}
	owner.set(t, long)
	thief.set(t, long)
	owner.mustJoin(t)
	if err := os.CopyFS(filepath.Join(thief.dir, "data", "identity"), os.DirFS(filepath.Join(owner.dir, "data", "identity"))); err != nil {
		t.Fatal(err)
	}
	ownerLog, relayLog := owner.start(t), markLog("relay")
	owner.connected(t)
	thief.start(t)
	thief.connected(t)
	ownerLog.once(t, "gave this node's session to another agent", "a newer session of this node was opened from 127.0.0.1", "is the same identity installed on two gateways?")
	relayLog.once(t, "agent disconnected", "node=gw-twice", "a newer session of this node was opened from")
	st, err := owner.status(t.Context())
	if err != nil || st.Link.Connected {
		t.Errorf("the older session: %+v, %v", st.Link, err)
	}
	st, err = thief.status(t.Context())
	if err != nil || !st.Link.Connected {
		t.Errorf("the newest session: %+v, %v", st.Link, err)
	}
	// A claim at the relay that has the Lease already is recorded before the session's first write, or with the next renewal.
	stacktest.Eventually(t, 20*time.Second, "the Lease names the newest session", func() (bool, string) {
		lease, err := w.cluster.Core.CoordinationV1().Leases("kube-node-lease").Get(t.Context(), "gw-twice", metav1.GetOptions{})
		return err == nil && lease.Annotations["skerry.dev/session-epoch"] == fmt.Sprint(st.Link.Epoch), fmt.Sprintf("%v %v, newest %d", lease.Annotations, err, st.Link.Epoch)
	})
	ownerLog.atMost(t, 6)
	// The thief is revoked with the node: both are out, at once.
	if _, err := w.Ctl(t.Context(), "node", "revoke", "gw-twice"); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 15*time.Second, "the revoked agent is out", func() (bool, string) {
		st, err := thief.status(t.Context())
		return err == nil && !st.Link.Connected, fmt.Sprintf("%+v", st.Link)
	})
	contains(t, "skerryd status", thief.text(t), "NOT CONNECTED", "revoked")
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	free := front(t)
	for _, c := range []struct{ name, listen, metrics, flag string }{
		{"relay --listen", taken, free, "port"}, {"relay --metrics-address", free, taken, "--metrics-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := process.Output(ctx, process.Spec{Name: "skerry-relay", Path: filepath.Join(w.Bin, "skerry-relay"), Args: []string{
				"--name", "second", "--kubeconfig", w.Kube.Kubeconfig(), "--listen", c.listen, "--metrics-address", c.metrics}})
			if err == nil || ctx.Err() != nil {
				t.Fatalf("it should have ended with an error: %v", err)
			}
			contains(t, "the last line", lastLine(err.Error()), taken, "address already in use", c.flag, "stop what uses it")
			if n := strings.Count(err.Error(), taken+": bind"); n > 1 {
				t.Errorf("said %d times:\n%v", n, err)
			}
		})
	}
	t.Run("agent metrics.address", func(t *testing.T) {
		g := newGateway(t, "gw-port")
		g.set(t, map[string]any{"metrics": map[string]any{"address": taken}})
		g.mustJoin(t)
		mark := g.start(t)
		g.connected(t) // everything else goes on
		mark.once(t, "metrics.address "+taken, "is used by another process", "stop it", "or set another address")
		_ = l.Close()
		stacktest.Eventually(t, 25*time.Second, "metrics are served once the port is free", func() (bool, string) {
			text := get(t, "http://"+taken+"/metrics")
			return strings.Contains(text, "skerry_"), text
		})
		mark.once(t, "is used by another process")
	})
	t.Run("two agents, one dataDir", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := process.Output(ctx, process.Spec{Name: "skerryd", Path: filepath.Join(w.Bin, "skerryd"), Args: []string{"run", "-config", w.AgentConfig()}})
		if err == nil || ctx.Err() != nil {
			t.Fatalf("it should have ended with an error: %v", err)
		}
		contains(t, "the last line", lastLine(err.Error()), w.AgentData(), fmt.Sprintf("already open in process %d", w.Agent.PID()), "stop that agent, or give this one a dataDir of its own")
		if _, err := w.Status(t.Context()); err != nil {
			t.Errorf("the first agent suffered: %v", err)
		}
	})
}

func TestBadConfiguration(t *testing.T) {
	run := func(t *testing.T, program string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := process.Output(ctx, process.Spec{Name: program, Path: filepath.Join(w.Bin, program), Args: args})
		if err == nil || ctx.Err() != nil {
			t.Fatalf("%s %v: it should have ended with an error: %v", program, args, err)
		}
		return err.Error()
	}
	file := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("no file", func(t *testing.T) {
		contains(t, "skerryd", run(t, "skerryd", "run", "-config", "/nonexistent/skerryd.yaml"), "/nonexistent/skerryd.yaml", "relay.addresses", "docs/configuration.md")
	})
	t.Run("everything wrong at once", func(t *testing.T) {
		text := run(t, "skerryd", "run", "-config", file(t, "node: {name: GW_1}\nrelay: {addresses: ['https://relay.example.org']}\ndataDir: data\nmemory: {limit: 1Mi}\nlog: {format: xml}\nmetrics: {address: '9090'}\n"))
		contains(t, "skerryd", text, `node.name: "GW_1" is wrong`, "lower-case", `relay.addresses[0]: "https://relay.example.org" is wrong`, "HOST:PORT", `dataDir: "data" is wrong: an absolute path`,
			`memory.limit: "1Mi" is wrong`, "24Mi", `log.format: "xml" is wrong: allowed are text and json`, `metrics.address: "9090" is wrong`)
	})
	t.Run("misspelt key", func(t *testing.T) {
		contains(t, "skerryd", run(t, "skerryd", "run", "-config", file(t, "relay: {addresses: ['r:1']}\ndatadir: /x\n")), "line 2", "datadir")
	})
	t.Run("not YAML", func(t *testing.T) {
		contains(t, "skerryd", run(t, "skerryd", "run", "-config", file(t, "relay: {addresses: [")), "c.yaml", "line 1")
	})
	t.Run("relay", func(t *testing.T) {
		contains(t, "skerry-relay", run(t, "skerry-relay", "--config", file(t, "lissten: x\n")), "lissten")
		contains(t, "skerry-relay", run(t, "skerry-relay", "--kubeconfig", "/nonexistent", "--listen", "nowhere"), "listen", "nowhere", "HOST:PORT")
		contains(t, "skerry-relay", run(t, "skerry-relay", "--kubeconfig", "/nonexistent"), "/nonexistent", "kubeconfig")
	})
	t.Run("verbs", func(t *testing.T) {
		contains(t, "skerryd", run(t, "skerryd", "jion"), `"jion"`, "join")
		contains(t, "skerryd", run(t, "skerryd", "join", "-config", w.AgentConfig()), "-token or -token-file")
		contains(t, "skerryd status", run(t, "skerryd", "status", "-config", file(t, "relay: {addresses: ['r:1']}\nsocket: /nonexistent/s\n")), "/nonexistent/s", "is skerryd running?")
		contains(t, "skerryctl", run(t, "skerryctl", "token", "create", "--kubeconfig", w.Kube.Kubeconfig()), "--node NAME", "--nodes FILE")
		contains(t, "skerryctl", run(t, "skerryctl", "token", "create", "--kubeconfig", w.Kube.Kubeconfig(), "--node", "GW_1"), `"GW_1"`, "lower-case letters")
	})
	// Nothing of this is a page of usage text.
	if text := run(t, "skerryd", "jion"); bytes.Count([]byte(text), []byte("\n")) > 2 {
		t.Errorf("not one message:\n%s", text)
	}
}
