package kubelet

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ktesting "k8s.io/client-go/testing"
)

// TestHostilePages: a gateway that has been taken over brings nobody down who reads statistics of all.
func TestHostilePages(t *testing.T) {
	packed := func(size int64, most int) []byte {
		var b bytes.Buffer
		gz := gzip.NewWriter(&b)
		if _, err := io.Copy(gz, io.LimitReader(zeros{}, size)); err != nil {
			t.Fatal(err)
		}
		if err := gz.Close(); err != nil {
			t.Fatal(err)
		}
		if b.Len() > most {
			t.Fatalf("%d bytes are packed into %d", size, b.Len())
		}
		return b.Bytes()
	}
	small, bomb := packed(1000, 1000), packed(maxPage+1, 1<<20)
	full := packed(maxPage, 1<<20)
	w := newWorld(t)
	w.agent.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		switch r.URL.Path {
		case "/metrics/small", "/metrics/full", "/metrics/bomb":
			h.Set("Content-Encoding", "gzip")
			_, _ = rw.Write(map[string][]byte{"/metrics/small": small, "/metrics/full": full, "/metrics/bomb": bomb}[r.URL.Path])
		case "/metrics/endless":
			_, _ = io.Copy(rw, zeros{})
		case "/metrics/said":
			h.Set("Content-Length", fmt.Sprint(maxPage+1))
		case "/metrics/other":
			h.Set("Content-Encoding", "br")
		case "/metrics/header":
			h.Set("X-Much", strings.Repeat("x", maxAnswerHeader))
		case "/metrics/noise":
			h.Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(rw, "no gzip")
		}
	})
	api := w.cluster.named("apiserver")
	for path, want := range map[string]struct {
		status int
		bytes  int64 // at most; whole says whether the answer came to its end
		whole  bool
	}{
		"small": {200, 1000, true}, "full": {200, maxPage, true}, "bomb": {200, maxPage, false}, "endless": {200, maxPage, false},
		"said": {503, 1000, true}, "other": {503, 1000, true}, "header": {503, 1000, true}, "noise": {0, 0, false},
	} {
		for _, relay := range []string{"a", "b"} { // b has it from a
			status, n, err := w.read(http.MethodGet, ask{relay: relay, path: "/nodes/gw-1/metrics/" + path, cert: api, header: map[string]string{"Accept-Encoding": "gzip"}})
			if status != want.status && want.status != 0 || n > want.bytes || (err == nil) != want.whole || want.whole && want.status == 200 && n != want.bytes {
				t.Errorf("%s by %s: %d, %d bytes, %v; want %+v", path, relay, status, n, err, want)
			}
		}
	}
	if status, n, err := w.read(http.MethodHead, ask{path: "/nodes/gw-1/metrics/small", cert: api, header: map[string]string{"Accept-Encoding": "gzip"}}); status != 200 || n != 0 || err != nil {
		t.Errorf("HEAD: %d, %d bytes, %v", status, n, err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// read counts the bytes of an answer.
func (w *world) read(method string, a ask) (status int, n int64, err error) {
	w.t.Helper()
	tr := &http.Transport{TLSClientConfig: w.config(a), DisableKeepAlives: true, DisableCompression: true}
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+w.at(a)+a.path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for k, v := range a.header {
		req.Header.Set(k, v)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		w.t.Errorf("%s: encoded as %s", a.path, e)
	}
	n, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, n, err
}

// TestTokensInProtocols: a token that a browser's client left among the WebSocket protocols stays with the relay.
func TestTokensInProtocols(t *testing.T) {
	for given, want := range map[string]string{
		"v5.channel.k8s.io, " + tokenProtocol + "c2VjcmV0": "v5.channel.k8s.io",
		tokenProtocol + "c2VjcmV0":                         "",
		"v5.channel.k8s.io,v4.channel.k8s.io":              "v5.channel.k8s.io, v4.channel.k8s.io",
	} {
		h := http.Header{}
		h.Set("Sec-WebSocket-Protocol", given)
		if dropTokens(h); h.Get("Sec-WebSocket-Protocol") != want {
			t.Errorf("%q becomes %q", given, h)
		}
	}
	w := newWorld(t)
	w.expect(ask{path: logs, cert: w.cluster.named("apiserver"), header: map[string]string{"Sec-WebSocket-Protocol": tokenProtocol + "c2VjcmV0"}}, 200, "agent")
	if h := w.last().Header; len(h["Sec-Websocket-Protocol"]) != 0 {
		t.Errorf("the gateway sees %v", h)
	}
}

// TestGuessedTokens: one who presents one wrong token after the other is not reviewed for ever, and others are.
func TestGuessedTokens(t *testing.T) {
	var s suspects
	now := time.Unix(1000, 0)
	for range badTokens {
		if !s.may("192.0.2.1", now) {
			t.Fatal("refused before the limit")
		}
	}
	if s.may("192.0.2.1", now) || !s.may("192.0.2.2", now) || !s.may("192.0.2.1", now.Add(tokenBad)) {
		t.Error("the limit does not hold, holds for others, or for ever")
	}
	s.good("192.0.2.2")
	if n := s.has["192.0.2.2"].bad; n != 0 {
		t.Errorf("a good token counts as %d bad ones", n)
	}
	for i := range 2 * sourcesKnown {
		s.may(fmt.Sprint(i), now)
	}
	if len(s.has) > sourcesKnown {
		t.Errorf("%d sources are known", len(s.has))
	}

	w := newWorld(t)
	for i := range badTokens {
		w.expect(ask{path: logs, token: fmt.Sprint("guess", i)}, 401, "not valid")
	}
	before := w.reviews.Load()
	w.expect(ask{path: logs, token: "another"}, 401, "have just been found not valid")
	if n := w.reviews.Load() - before; n != 0 {
		t.Errorf("%d reviews more", n)
	}
	w.expect(ask{path: logs, cert: w.cluster.named("apiserver")}, 200, "agent")
}

// TestReviewsThatFail: tokens that the API server could not review are no bad ones, and are reviewed when it can again.
func TestReviewsThatFail(t *testing.T) {
	w := newWorld(t)
	users, down := w.relays["a"].srv.users, true
	w.client.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		if down {
			return true, nil, errors.New("etcd has no leader")
		}
		r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		r.Status.Authenticated, r.Status.User.Username = true, "metrics"
		return true, r, nil
	})
	for range badTokens + 1 {
		if _, err := users.token(t.Context(), "good", "192.0.2.1"); err == nil || !strings.Contains(err.Error(), "cannot be reviewed now") {
			t.Fatal(err)
		}
	}
	down = false
	if u, err := users.token(t.Context(), "good", "192.0.2.1"); err != nil || u.name != "metrics" {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestOneReviewForMany: a scraper that asks about a thousand nodes at a time costs one review.
func TestOneReviewForMany(t *testing.T) {
	w := newWorld(t)
	users, let := w.relays["a"].srv.users, make(chan struct{})
	var asked sync.WaitGroup
	asked.Add(1)
	first := sync.OnceFunc(asked.Done)
	reviews := 0
	w.client.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		first()
		<-let
		reviews++
		r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		r.Status.Authenticated, r.Status.User.Username = true, "metrics"
		return true, r, nil
	})
	var wg sync.WaitGroup
	ask := func() {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer shared")
		if u, err := users.authenticate(r); err != nil || u.name != "metrics" {
			t.Errorf("%+v, %v", u, err)
		}
	}
	wg.Go(ask)
	asked.Wait()
	for range 2 * badTokens {
		wg.Go(ask)
	}
	close(let)
	wg.Wait()
	if reviews != 1 {
		t.Errorf("%d reviews", reviews)
	}
}
