package enroll

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
)

// cluster returns a fake API server that is strict about resourceVersions, as the real one is and client-go's fake is not.
func cluster(t *testing.T, objs ...runtime.Object) *fake.Clientset {
	t.Helper()
	c := fake.NewClientset(objs...)
	var mu sync.Mutex
	secrets := corev1.SchemeGroupVersion.WithResource("secrets")
	c.PrependReactor("update", "secrets", func(a ktesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		next := a.(ktesting.UpdateAction).GetObject().(*corev1.Secret).DeepCopy()
		have, err := c.Tracker().Get(secrets, next.Namespace, next.Name)
		if err != nil {
			return true, nil, err
		}
		if rv := have.(*corev1.Secret).ResourceVersion; rv != next.ResourceVersion {
			return true, nil, apierrors.NewConflict(secrets.GroupResource(), next.Name, fmt.Errorf("is at %q, not %q", rv, next.ResourceVersion))
		}
		n, _ := strconv.Atoi(next.ResourceVersion)
		next.ResourceVersion = strconv.Itoa(n + 1)
		return true, next, c.Tracker().Update(secrets, next, next.Namespace)
	})
	return c
}

// revokedIf is a list of revoked nodes that is known.
type revokedIf func(node string) bool

func (f revokedIf) Synced() bool               { return true }
func (f revokedIf) NotBefore(string) time.Time { return time.Time{} }
func (f revokedIf) Refused(node string, _ time.Time) string {
	if f(node) {
		return "node " + node + " is revoked"
	}
	return ""
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

type relay struct {
	*Server
	client  *fake.Clientset
	ca      *CA
	tokens  *Tokens
	address string
}

// startRelay serves enrolment over real TLS on loopback, with a certificate that names none of its addresses.
func startRelay(t *testing.T, change ...func(*Options)) *relay {
	t.Helper()
	return startRelayOf(t, func(*Options) *Authority { return nil }, change...)
}

// startRelayOf starts one that follows its CA, if follow returns an Authority.
func startRelayOf(t *testing.T, follow func(*Options) *Authority, change ...func(*Options)) *relay {
	t.Helper()
	c := cluster(t)
	ca, created, err := InitCA(t.Context(), c, time.Now())
	if err != nil || !created {
		t.Fatalf("InitCA = %v, created %v", err, created)
	}
	opts := Options{Client: c, CA: ca.Always, PerSource: 1000}
	for _, f := range change {
		f(&opts)
	}
	a := follow(&opts)
	srv := NewServer(opts)
	cert, err := ca.IssueServing(nil)
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewUnstartedServer(srv)
	if hs.TLS = ca.ServerTLS(cert); a != nil {
		hs.TLS = a.ServerTLS()
	}
	hs.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	hs.StartTLS()
	t.Cleanup(hs.Close)
	return &relay{Server: srv, client: c, ca: ca, tokens: NewTokens(c, opts.Now), address: hs.Listener.Addr().String()}
}

func (r *relay) token(t *testing.T, node string) join.Token {
	t.Helper()
	tok, _, err := r.tokens.Create(t.Context(), r.ca, node, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func (r *relay) join(t *testing.T, tok join.Token, dir string) (*identity.Identity, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return identity.Enroll(ctx, identity.EnrollOptions{Addresses: []string{r.address}, Token: tok.String(), Node: tok.Node, Dir: dir})
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}
