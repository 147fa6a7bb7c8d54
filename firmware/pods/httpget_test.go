package pods

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// servingCert makes a certificate that signs itself, for a name, valid until a time.
func servingCert(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: until.Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveHTTPS serves a handler on loopback and returns its port.
func serveHTTPS(t *testing.T, config *tls.Config, handler http.HandlerFunc) int64 {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = config
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return portOf(t, srv.Listener.Addr())
}

func portOf(t *testing.T, addr net.Addr) int64 {
	t.Helper()
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return int64(at.Port())
}

func port(n int64) corev1.IntOrString { return corev1.IntOrString{Int: n} }

// noted are the events of probes.
type noted struct {
	mu     sync.Mutex
	events []fakeEvent
}

func (n *noted) Event(_ wire.ObjectRef, _, reason, message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, fakeEvent{reason: reason, message: message})
}

// probing is a readiness probe of a container on loopback.
func probing() (*probeLoop, *noted) {
	n := new(noted)
	events := &eventLog{to: n, seen: map[string]time.Time{}}
	events.about(wire.ObjectRef{Kind: "Pod", Name: "web"}, slog.New(slog.DiscardHandler))
	spec := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{}}
	return &probeLoop{caller: caller{spec: spec, ip: "127.0.0.1"}, p: &prober{events: events}, kind: probeReadiness}, n
}

// TestHTTPSTakesAnyCertificate: whatever a container's server shows is good enough, in the versions of TLS that are still safe.
func TestHTTPSTakesAnyCertificate(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name   string
		cert   tls.Certificate
		config *tls.Config
		want   string // of the error; empty: ready
	}{
		{"self-signed", servingCert(t, "web", soon), &tls.Config{}, ""},
		{"expired", servingCert(t, "web", time.Now().Add(-24*time.Hour)), &tls.Config{}, ""},
		{"of another name", servingCert(t, "bank.example.org", soon), &tls.Config{}, ""},
		{"TLS 1.2", servingCert(t, "web", soon), &tls.Config{MaxVersion: tls.VersionTLS12}, ""},
		{"TLS 1.3", servingCert(t, "web", soon), &tls.Config{MinVersion: tls.VersionTLS13}, ""},
		{"TLS 1.1", servingCert(t, "web", soon), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"wants a certificate, too", servingCert(t, "web", soon), &tls.Config{ClientAuth: tls.RequireAnyClientCert}, "certificate required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Certificates = []tls.Certificate{c.cert}
			at := serveHTTPS(t, c.config, func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != "HTTP/1.1" || !r.Close || r.TLS.ServerName != "" || len(r.TLS.PeerCertificates) != 0 || r.URL.String() != "/ready?deep=1" {
					t.Errorf("asked with %s, close %v, name %q, %d certificates, for %s", r.Proto, r.Close, r.TLS.ServerName, len(r.TLS.PeerCertificates), r.URL)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			l, _ := probing()
			err := l.http(t.Context(), &corev1.HTTPGetAction{Port: port(at), Path: "/ready?deep=1", Scheme: schemeHTTPS})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the probe says %v, want %q", err, c.want)
			}
		})
	}
	l, _ := probing()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	if err := l.http(t.Context(), &corev1.HTTPGetAction{Port: port(portOf(t, plain.Listener.Addr())), Scheme: schemeHTTPS}); err == nil || !strings.Contains(err.Error(), "HTTP response to HTTPS client") {
		t.Errorf("a probe of a server without TLS says %v", err)
	}
}

// TestHTTPHeaders: those of the manifest go before the prober's own, as a kubelet sends them.
func TestHTTPHeaders(t *testing.T) {
	got := make(chan *http.Request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	defer srv.Close()
	at := port(portOf(t, srv.Listener.Addr()))
	l, _ := probing()
	for _, c := range []struct {
		headers                   []corev1.HTTPHeader
		host, agent, accept, more string
		acceptSent                bool
	}{
		{nil, "127.0.0.1:" + strconv.FormatInt(at.Int, 10), "kube-probe/1.37", "*/*", "", true},
		{[]corev1.HTTPHeader{{Name: "host", Value: "web.example.org"}, {Name: "User-Agent", Value: "mine"}, {Name: "Accept", Value: "text/plain"}, {Name: "X-More", Value: "a"}, {Name: "x-more", Value: "b"}}, "web.example.org", "mine", "text/plain", "a,b", true},
		{[]corev1.HTTPHeader{{Name: "Accept", Value: ""}}, "127.0.0.1:" + strconv.FormatInt(at.Int, 10), "kube-probe/1.37", "", "", false},
	} {
		if err := l.http(t.Context(), &corev1.HTTPGetAction{Port: at, HTTPHeaders: c.headers}); err != nil {
			t.Fatal(err)
		}
		r := <-got
		_, sent := r.Header["Accept"]
		if r.Host != c.host || r.UserAgent() != c.agent || r.Header.Get("Accept") != c.accept || sent != c.acceptSent || strings.Join(r.Header["X-More"], ",") != c.more || r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("sent %s, %v; want %+v", r.Host, r.Header, c)
		}
	}
	if err := (&caller{spec: &corev1.Container{}, ip: "127.0.0.1"}).httpHook(t.Context(), &corev1.HTTPGetAction{Port: at}); err != nil {
		t.Fatal(err)
	}
	if agent := (<-got).UserAgent(); agent != "kube-lifecycle/1.37" {
		t.Errorf("a hook calls itself %s", agent)
	}
}

// TestRedirects: to the same host they are followed, from HTTP to HTTPS, too; one to another host is a success with a warning.
func TestRedirects(t *testing.T) {
	hits := map[string]int{}
	var mu sync.Mutex
	var secure int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		hits[r.URL.Path]++
		mu.Unlock()
		switch r.URL.Path {
		case "/secure":
			http.Redirect(w, r, "https://127.0.0.1:"+strconv.FormatInt(secure, 10)+"/sick", http.StatusFound)
		case "/sick":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/elsewhere", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		}
	}
	secure = serveHTTPS(t, &tls.Config{Certificates: []tls.Certificate{servingCert(t, "web", time.Now().Add(time.Hour))}}, handler)
	srv := httptest.NewServer(http.HandlerFunc(handler))
	defer srv.Close()
	l, n := probing()
	ask := func(path string) error {
		return l.http(t.Context(), &corev1.HTTPGetAction{Port: port(portOf(t, srv.Listener.Addr())), Path: path})
	}
	if err := ask("/secure"); err == nil || !strings.Contains(err.Error(), "statuscode: 503") || hits["/sick"] != 1 {
		t.Errorf("a redirect to TLS at the same host: %v, asked %d times", err, hits["/sick"])
	}
	if err := ask("/round"); err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") || hits["/round"] != maxRedirects {
		t.Errorf("a redirect without end: %v after %d", err, hits["/round"])
	}
	if len(n.events) != 0 {
		t.Errorf("events %v", n.events)
	}
	if err := ask("/away"); err != nil {
		t.Errorf("a redirect to another host: %v", err)
	}
	if len(n.events) != 1 || n.events[0].reason != "ProbeWarning" || !strings.HasPrefix(n.events[0].message, "Readiness probe warning: Probe terminated redirects, Response body: <a href=") {
		t.Errorf("events %v", n.events)
	}
}

// TestHTTPSGoesNowhereElse: neither a host that is another machine's, nor a name that resolves to one, is dialled.
func TestHTTPSGoesNowhereElse(t *testing.T) {
	a := &caller{spec: &corev1.Container{}, ip: "10.0.0.9"}
	for host, want := range map[string]bool{"10.0.0.9": true, "::ffff:10.0.0.9": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, localhost: true, "10.0.0.8": false, "192.0.2.1": false, "web": false, "": false} {
		if got := a.near(host); got != want {
			t.Errorf("near(%q) = %v", host, got)
		}
	}
	for ip := range ownAddresses() {
		if !a.own(ip) {
			t.Errorf("%s, which this machine has, is not its own", ip)
		}
	}
	if _, err := a.dialUnproven(t.Context(), "tcp", "192.0.2.1:443"); err == nil || !strings.Contains(err.Error(), "neither the pod's address nor this node's") {
		t.Errorf("dialling another machine: %v", err)
	}
	// A redirect to TLS at a host that plain HTTP may ask ends there.
	req := httptest.NewRequest(http.MethodGet, "https://192.0.2.1/next", nil)
	via := []*http.Request{httptest.NewRequest(http.MethodGet, "http://192.0.2.1/", nil)}
	if err := a.follow(req, via); err != http.ErrUseLastResponse { //nolint:errorlint // net/http compares so
		t.Errorf("following it: %v", err)
	}
}

// TestHTTPSHookFallsBack: a hook of scheme HTTPS whose server does not speak TLS is made without, and without the secret in its headers.
func TestHTTPSHookFallsBack(t *testing.T) {
	got := make(chan http.Header, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer srv.Close()
	var told []string
	a := &caller{spec: &corev1.Container{}, ip: "127.0.0.1", warn: func(reason, message string) { told = append(told, reason+": "+message) }}
	err := a.hook(t.Context(), &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Port: port(portOf(t, srv.Listener.Addr())), Scheme: schemeHTTPS,
		HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: "Bearer x"}, {Name: "X-Reason", Value: "test"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if h := <-got; h.Get("Authorization") != "" || h.Get("X-Reason") != "test" {
		t.Errorf("headers %v", h)
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "LifecycleHTTPFallback: request to HTTPS lifecycle hook 127.0.0.1:") {
		t.Errorf("told %v", told)
	}
}

// TestProbeSaysNothing: a probe that finds nobody to ask, or half an answer, counts neither way.
func TestProbeSaysNothing(t *testing.T) {
	l, _ := probing()
	for name, get := range map[string]*corev1.HTTPGetAction{
		"no such port": {Port: corev1.IntOrString{IsString: true, Str: "web"}},
		"half an answer": {Port: port(serveHTTPS(t, &tls.Config{Certificates: []tls.Certificate{servingCert(t, "web", time.Now().Add(time.Hour))}}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		})), Scheme: schemeHTTPS},
	} {
		err := l.http(t.Context(), get)
		if _, ok := err.(*inconclusive); !ok { //nolint:errorlint // it is returned as it is
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHTTPSStaysHere: a pod whose HTTPS requests name another machine's address is refused by the field's name, one that names the node's own runs.
func TestHTTPSStaysHere(t *testing.T) {
	doc := func(host string) string {
		return `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"containers":[{"name":"c","image":"app:1","lifecycle":{"preStop":{"httpGet":{"host":"` + host + `","port":443,"scheme":"HTTPS"}}}}]}}`
	}
	for host, phase := range map[string]string{"192.0.2.7": phaseRunning, "127.0.0.1": phaseRunning, localhost: phaseRunning, "192.0.2.8": phasePending, "2001:db8::8": phasePending} {
		simulate(t, func(w *world) {
			w.apply(doc(host))
			w.settle(15 * time.Second)
			s := w.status()
			if s.Phase != phase {
				t.Errorf("%s: the pod is %s, %s", host, s.Phase, s.Message)
			}
			if phase == phasePending && (s.Reason != reasonUnsupported || !strings.HasPrefix(s.Message, "spec.containers[0].lifecycle.preStop.httpGet.host: HTTPS requests go only") || len(w.rt.byName("c")) != 0 || w.count(podKey) > 2) {
				t.Errorf("%s: %s, %q, reported %d times", host, s.Reason, s.Message, w.count(podKey))
			}
		})
	}
}

// TestProbeCommandKnowsVariables: those that the spec gives a value, and no hook's.
func TestProbeCommandKnowsVariables(t *testing.T) {
	simulate(t, func(w *world) {
		ran := w.commands(nil)
		w.apply(`{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"containers":[{"name":"c","image":"app:1",
		"env":[{"name":"PORT","value":"80"},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}],
		"lifecycle":{"postStart":{"exec":{"command":["began at $(PORT)"]}}},
		"readinessProbe":{"exec":{"command":["ask $(PORT) $(NODE)$(OTHER) $$(PORT)"]},"periodSeconds":1}}]}}`)
		w.settle(3 * time.Second)
		if got := ran(); len(got) < 2 || got[0] != "began at $(PORT)" || got[1] != "ask 80 $(OTHER) $(PORT)" {
			t.Errorf("ran %q", got)
		}
	})
}
