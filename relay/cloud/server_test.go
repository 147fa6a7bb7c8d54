package cloud

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	contract "github.com/skerry/skerry/firmware/wire/cloud"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/firmware/wire/stream/streamtest"
)

// bound is a pod of a node.
type bound struct {
	node, phase string
	body        []byte
}

// world is a server, the pods that it knows, and an API that makes tokens.
type world struct {
	t    *testing.T
	s    *Server
	set  *metrics.Set
	pods map[wire.Key]bound

	streams *streamtest.Pipes

	mu    sync.Mutex
	made  []string // namespace/account and what was asked for
	fails error
	slow  time.Duration
	under int
	most  int
	log   bytes.Buffer
}

func (w *world) BoundPod(node string, key wire.Key) ([]byte, string, bool) {
	p, ok := w.pods[key]
	return p.body, p.phase, ok && p.node == node
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) ServiceAccounts(namespace string) corev1client.ServiceAccountInterface {
	return &accounts{w: w, namespace: namespace}
}

type accounts struct {
	corev1client.ServiceAccountInterface
	w         *world
	namespace string
}

func (a *accounts) CreateToken(ctx context.Context, name string, tr *authenticationv1.TokenRequest, _ metav1.CreateOptions) (*authenticationv1.TokenRequest, error) {
	w := a.w
	w.mu.Lock()
	ref := tr.Spec.BoundObjectRef
	w.made = append(w.made, fmt.Sprintf("%s/%s %v %d %s %s %s", a.namespace, name, tr.Spec.Audiences, *tr.Spec.ExpirationSeconds, ref.Kind, ref.Name, ref.UID))
	w.under++
	w.most = max(w.most, w.under)
	n, slow, fails := len(w.made), w.slow, w.fails
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.under--
		w.mu.Unlock()
	}()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if fails != nil {
		return nil, fails
	}
	out := tr.DeepCopy()
	out.Status = authenticationv1.TokenRequestStatus{Token: fmt.Sprintf("token-%d", n), ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour))}
	return out, nil
}

func (w *world) requests() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.made)
}

const (
	ordinary = wire.Key("pods/default/web/u1")
	theirs   = wire.Key("pods/default/other/u2")
	ended    = wire.Key("pods/default/job/u3")
	special  = wire.Key("pods/prod/special/u4")
)

func serve(t *testing.T, o Options, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, set: metrics.NewSet(), pods: map[wire.Key]bound{}}
		const volume = `{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"token","expirationSeconds":3607}},{"configMap":{"name":"x"}}]}}`
		for key, p := range map[wire.Key]struct{ node, phase, spec string }{
			ordinary: {"gw-1", "Running", `{"serviceAccountName":"web","volumes":[{"name":"e"},` + volume + `]}`},
			theirs:   {"gw-2", "Running", `{"serviceAccountName":"web","volumes":[` + volume + `]}`},
			ended:    {"gw-1", "Succeeded", `{"serviceAccountName":"web","volumes":[` + volume + `]}`},
			special:  {"gw-1", "Pending", `{"volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"a","audience":"vault"}}]}}]}`},
		} {
			body, err := canon.FromJSON([]byte(`{"metadata":{"name":"` + key.Name() + `"},"spec":` + p.spec + `}`))
			if err != nil {
				t.Fatal(err)
			}
			w.pods[key] = bound{p.node, p.phase, body}
		}
		o.Pods, o.Accounts, o.Log, o.Metrics = w, w, slog.New(slog.NewTextHandler(w, nil)), w.set
		w.s = New(o)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		w.streams = streamtest.NewPipes()
		go func() { done <- w.s.Serve(ctx, w.streams) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
		test(w)
	})
}

// nodeConn is a stream of a node.
type nodeConn struct {
	net.Conn
	node stream.Addr
}

func (c nodeConn) RemoteAddr() net.Addr { return c.node }

// dial opens a stream as node.
func (w *world) dial(node string) (net.Conn, error) {
	here, there := net.Pipe()
	return here, w.streams.Arrive(w.t.Context(), nodeConn{there, stream.Addr(node)})
}

// client returns a client of the node's, as an agent has it, and what ends it.
func (w *world) client(node string) (*http.Client, func()) {
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(node) }}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// ask asks as node for a token.
func (w *world) ask(node string, r contract.TokenRequest) (contract.Token, error) {
	w.t.Helper()
	c, end := w.client(node)
	defer end()
	return w.post(c, r)
}

func (w *world) post(c *http.Client, r contract.TokenRequest) (contract.Token, error) {
	b, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := c.Post("http://relay"+contract.TokenPath, "application/json", bytes.NewReader(b))
	if err != nil {
		return contract.Token{}, err
	}
	defer resp.Body.Close()
	return contract.ReadTokenAnswer(resp.StatusCode, resp.Body)
}

func refusedWith(err error) contract.Code {
	if r, ok := errors.AsType[*contract.Refusal](err); ok {
		return r.Code
	}
	return ""
}

func TestTokens(t *testing.T) {
	serve(t, Options{}, func(w *world) {
		token, err := w.ask("gw-1", contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 3607})
		if err != nil || token.Token != "token-1" || token.Lifetime != 3607 || time.Until(token.Expires) <= 0 {
			t.Errorf("%+v, %v", token, err)
		}
		if token, err = w.ask("gw-1", contract.TokenRequest{Pod: special, ServiceAccount: "default", Audience: "vault", ExpirationSeconds: 3600}); err != nil || token.Token != "token-2" {
			t.Errorf("%+v, %v", token, err)
		}
		want := []string{"default/web [] 3607 Pod web u1", "prod/default [vault] 3600 Pod special u4"}
		for i := range want {
			if w.made[i] != want[i] {
				t.Errorf("Kubernetes was asked for %q, want %q", w.made[i], want[i])
			}
		}
		if n := w.set.GetOrCreateCounter(`skerry_relay_tokens_total{result="issued"}`).Get(); n != 2 {
			t.Errorf("%d counted", n)
		}
		if strings.Contains(w.log.String(), "token-") {
			t.Error("tokens are in the log")
		}
	})
}

// TestTokenOfMoreThanAYear: Kubernetes takes any expirationSeconds of a volume; the relay's account gets tokens for a year at most.
func TestTokenOfMoreThanAYear(t *testing.T) {
	const asked = 2 * MaxTokenLife
	serve(t, Options{}, func(w *world) {
		body, err := canon.FromJSON(fmt.Appendf(nil, `{"spec":{"serviceAccountName":"web","volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"a","expirationSeconds":%d}}]}}]}}`, asked))
		if err != nil {
			t.Fatal(err)
		}
		w.pods[ordinary] = bound{"gw-1", "Running", body}
		token, err := w.ask("gw-1", contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: asked})
		if err != nil || token.Lifetime != MaxTokenLife {
			t.Errorf("%+v, %v", token, err)
		}
	})
}

// TestTokensOfOthers: what a gateway that was taken over would ask for.
func TestTokensOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		r    contract.TokenRequest
		want contract.Code
	}{
		"another node's pod":       {contract.TokenRequest{Pod: theirs, ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeNotYours},
		"a pod that is gone":       {contract.TokenRequest{Pod: "pods/default/web/u0", ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeNotYours},
		"a pod of another name":    {contract.TokenRequest{Pod: "pods/default/admin/u1", ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeNotYours},
		"another namespace":        {contract.TokenRequest{Pod: "pods/kube-system/web/u1", ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeNotYours},
		"a pod that has ended":     {contract.TokenRequest{Pod: ended, ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeEnded},
		"another service account":  {contract.TokenRequest{Pod: ordinary, ServiceAccount: "admin", ExpirationSeconds: 3607}, contract.CodeNotNamed},
		"a path for a name":        {contract.TokenRequest{Pod: ordinary, ServiceAccount: "../../secrets/x", ExpirationSeconds: 3607}, contract.CodeNotNamed},
		"another audience":         {contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", Audience: "vault", ExpirationSeconds: 3607}, contract.CodeNotNamed},
		"the API server's instead": {contract.TokenRequest{Pod: special, ServiceAccount: "default", ExpirationSeconds: 3600}, contract.CodeNotNamed},
		"a longer life":            {contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 1 << 31}, contract.CodeNotNamed},
		"no pod at all":            {contract.TokenRequest{Pod: "secrets/default/x", ServiceAccount: "web", ExpirationSeconds: 3607}, contract.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, Options{}, func(w *world) {
				for range 3 {
					if token, err := w.ask("gw-1", c.r); refusedWith(err) != c.want {
						t.Errorf("%+v, %v; want %s", token, err, c.want)
					}
				}
				if w.requests() != 0 {
					t.Errorf("Kubernetes was asked: %v", w.made)
				}
				if n := strings.Count(w.log.String(), "refused a service account token"); n != 1 || !strings.Contains(w.log.String(), "gw-1") {
					t.Errorf("%d lines in the log:\n%s", n, w.log.String())
				}
			})
		})
	}
}

// TestRefusalsSayWhatIsMissing: the reasons of the API server.
func TestRefusalsSayWhatIsMissing(t *testing.T) {
	accounts, pods := schema.GroupResource{Resource: "serviceaccounts"}, schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		err  error
		want contract.Code
		says string
	}{
		"account":   {apierrors.NewNotFound(accounts, "web"), contract.CodeNoAccount, "service account default/web does not exist: create it"},
		"pod":       {apierrors.NewNotFound(pods, "web"), contract.CodeNotYours, "pod default/web is gone"},
		"uid":       {apierrors.NewConflict(pods, "web", errors.New("the UID does not match")), contract.CodeNotYours, "pod default/web is gone"},
		"rights":    {apierrors.NewForbidden(accounts, "web", errors.New("RBAC")), contract.CodeForbidden, "run `skerryctl init` of this release"},
		"wrong":     {apierrors.NewBadRequest("may not specify a duration less than 10 minutes"), contract.CodeRefused, "less than 10 minutes"},
		"away":      {errors.New("connection refused"), contract.CodeUnavailable, "connection refused"},
		"throttled": {apierrors.NewTooManyRequests("later", 5), contract.CodeUnavailable, "later"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, Options{}, func(w *world) {
				w.fails = c.err
				_, err := w.ask("gw-1", contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 3607})
				if refusedWith(err) != c.want || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %s: %s", err, c.want, c.says)
				}
			})
		})
	}
}

// TestTokenFlood: one node has its budget, and others do not feel it.
func TestTokenFlood(t *testing.T) {
	good := contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 3607}
	serve(t, Options{PerSecond: 1, Burst: 20}, func(w *world) {
		w.slow = 10 * time.Millisecond
		flood := func(d time.Duration) {
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					c, end := w.client("gw-1")
					defer end()
					for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
						if _, err := w.post(c, good); err != nil && refusedWith(err) != contract.CodeBusy {
							t.Errorf("%v", err)
							return
						}
					}
				})
			}
			wg.Wait()
		}
		flood(5 * time.Second)
		if n := w.requests(); n < 20 || n > 26 {
			t.Errorf("%d requests to Kubernetes in 5 s of flood, want the burst of 20 and 1 a second", n)
		}
		if w.most > 4 {
			t.Errorf("%d requests of one node at once", w.most)
		}
		if token, err := w.ask("gw-2", contract.TokenRequest{Pod: theirs, ServiceAccount: "web", ExpirationSeconds: 3607}); err != nil || token.Token == "" {
			t.Errorf("another node: %v", err)
		}
		w.mu.Lock()
		lines := strings.Count(w.log.String(), "\n")
		w.mu.Unlock()
		if lines != 1 {
			t.Errorf("%d lines in the log", lines)
		}
		time.Sleep(time.Hour)
		if _, err := w.ask("gw-1", good); err != nil {
			t.Errorf("after the flood: %v", err)
		}
	})
}

// TestManyNodesAtOnce: all of them together stay within what the relay has under way.
func TestManyNodesAtOnce(t *testing.T) {
	serve(t, Options{AllAtOnce: 8}, func(w *world) {
		w.slow = 100 * time.Millisecond
		var wg sync.WaitGroup
		for i := range 50 {
			key := wire.NewKey(wire.KindPod, "default", "web", fmt.Sprint("n", i))
			w.pods[key] = bound{fmt.Sprint("node", i), "Running", w.pods[ordinary].body}
		}
		for i := range 50 {
			wg.Go(func() {
				key := wire.NewKey(wire.KindPod, "default", "web", fmt.Sprint("n", i))
				if _, err := w.ask(fmt.Sprint("node", i), contract.TokenRequest{Pod: key, ServiceAccount: "web", ExpirationSeconds: 3607}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if w.most != 8 {
			t.Errorf("%d at once, want 8", w.most)
		}
		time.Sleep(time.Hour)
		if _, err := w.ask("gw-1", contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 3607}); err != nil || len(w.s.nodes) != 1 {
			t.Errorf("%v; %d nodes are remembered", err, len(w.s.nodes))
		}
	})
}

// TestHostileStreams: what is not a request ends its stream, and nothing else.
func TestHostileStreams(t *testing.T) {
	serve(t, Options{}, func(w *world) {
		for name, text := range map[string]string{
			"no HTTP":       "\x00\x01\x02\r\n\r\n",
			"long header":   "POST /v1/token HTTP/1.1\r\nHost: relay\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
			"another path":  "GET /v1/secrets HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n",
			"half a header": "POST /v1/token HTTP/1.1\r\n",
			"half a body":   "POST /v1/token HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n{",
			"long body":     "POST /v1/token HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 100_000),
			"nothing":       "",
		} {
			here, err := w.dial("gw-1")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.WriteString(here, text) }()
			status := "closed"
			if resp, err := http.ReadResponse(bufio.NewReader(here), nil); err == nil {
				status = resp.Status
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			begin := time.Now()
			_ = here.SetReadDeadline(begin.Add(time.Minute))
			if _, err := io.Copy(io.Discard, here); err != nil {
				t.Errorf("%s: the stream is open after a minute (%s)", name, status)
			}
			_ = here.Close()
			t.Logf("%s: %s, closed after %v", name, status, time.Since(begin))
		}
		if _, err := w.ask("gw-1", contract.TokenRequest{Pod: ordinary, ServiceAccount: "web", ExpirationSeconds: 3607}); err != nil {
			t.Error(err)
		}
	})
}
