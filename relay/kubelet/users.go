package kubelet

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/relay/source"
)

// What the API server publishes for those who verify its clients (Kubernetes: extension API servers, authentication).
const (
	publishedNamespace = "kube-system"
	publishedName      = "extension-apiserver-authentication"
	publishedKey       = "client-ca-file"
)

const (
	caEvery     = time.Minute // how often the CA is read again
	caRetry     = 2 * time.Second
	caRemind    = 5 * time.Minute
	tokenGood   = 2 * time.Minute // the kubelet's authentication.webhook.cacheTTL
	tokenBad    = 10 * time.Second
	tokensKept  = 4096
	reviewLimit = 10 * time.Second
	maxToken    = 64 << 10
)

// user is who asks.
type user struct {
	name   string
	uid    string
	groups []string
	extra  map[string][]string
}

// authenticator finds out who asks, by client certificate or by token.
type authenticator struct {
	client kubernetes.Interface
	file   string // of the CA; empty: the ConfigMap
	log    *slog.Logger
	roots  atomic.Pointer[x509.CertPool] // nil: not known yet
	tokens *remembered[[32]byte, *user]

	suspects suspects
	mu       sync.Mutex
	underWay map[[32]byte]*review // by the token's hash
}

func newAuthenticator(client kubernetes.Interface, file string, log *slog.Logger) (*authenticator, error) {
	a := &authenticator{client: client, file: file, log: log, tokens: newRemembered[[32]byte, *user](tokensKept), underWay: map[[32]byte]*review{}}
	if file == "" {
		return a, nil
	}
	return a, a.readFile()
}

// run keeps the CA up to date.
func (a *authenticator) run(ctx context.Context) {
	var said time.Time
	for ctx.Err() == nil {
		wait := caEvery
		if err := a.read(ctx); err != nil && ctx.Err() == nil {
			if a.roots.Load() == nil {
				wait = caRetry
			}
			if time.Since(said) > caRemind {
				said = time.Now()
				a.log.Warn("the CA of the API server's client certificates cannot be read: with no older one known, `kubectl logs` and the like are refused until it can, or kubelet.clientCAFile names a file",
					slog.Any("error", err))
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

func (a *authenticator) read(ctx context.Context) error {
	if a.file != "" {
		return a.readFile()
	}
	ctx, cancel := context.WithTimeout(ctx, reviewLimit)
	defer cancel()
	m, err := a.client.CoreV1().ConfigMaps(publishedNamespace).Get(ctx, publishedName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w", publishedNamespace, publishedName, err)
	}
	return a.take(m.Data[publishedKey], "ConfigMap "+publishedNamespace+"/"+publishedName+", key "+publishedKey)
}

func (a *authenticator) readFile() error {
	text, err := os.ReadFile(a.file)
	if err != nil {
		return fmt.Errorf("kubelet.clientCAFile: %w", err)
	}
	return a.take(string(text), a.file)
}

func (a *authenticator) take(pem, where string) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return fmt.Errorf("%s holds no certificate", where)
	}
	if old := a.roots.Load(); old == nil || !old.Equal(pool) {
		a.roots.Store(pool)
	}
	return nil
}

// authenticate returns who sent the request. The error is for the caller: it says nothing that is secret.
func (a *authenticator) authenticate(r *http.Request) (user, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		return a.certificate(r.TLS.PeerCertificates)
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return user{}, errors.New("no client certificate and no bearer token was presented: is the API server started with --kubelet-client-certificate? (docs/kubelet.md)")
	}
	if len(token) > maxToken {
		return user{}, errors.New("the bearer token is too long")
	}
	return a.token(r.Context(), token, source.Of(r.RemoteAddr))
}

func (a *authenticator) certificate(chain []*x509.Certificate) (user, error) {
	roots := a.roots.Load()
	if roots == nil {
		return user{}, errors.New("this relay does not know yet which CA signs the API server's client certificates; see its log")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return user{}, fmt.Errorf("the client certificate %q is not good here: %w: set kubelet.clientCAFile to the CA that signed it (docs/kubelet.md)", leaf.Subject.CommonName, err)
	}
	if leaf.Subject.CommonName == "" {
		return user{}, errors.New("the client certificate has no common name")
	}
	return user{name: leaf.Subject.CommonName, groups: append(append([]string(nil), leaf.Subject.Organization...), "system:authenticated")}, nil
}

// token finds out whose a token is. One that many present at the same time is reviewed once.
func (a *authenticator) token(ctx context.Context, token, from string) (user, error) {
	key := sha256.Sum256([]byte(token))
	if u, ok := a.tokens.get(key); ok {
		if u == nil {
			return user{}, errToken
		}
		return *u, nil
	}
	a.mu.Lock()
	r, other := a.underWay[key]
	if !other {
		if !a.suspects.may(from, time.Now()) {
			a.mu.Unlock()
			return user{}, errTokens
		}
		r = &review{done: make(chan struct{})}
		a.underWay[key] = r
	}
	a.mu.Unlock()
	if !other {
		// Others wait for it, too: it goes on when whoever came first has gone.
		r.user, r.err = a.review(context.WithoutCancel(ctx), token, key)
		if !errors.Is(r.err, errToken) { // one that could not be reviewed is not a bad one
			a.suspects.good(from)
		}
		a.mu.Lock()
		delete(a.underWay, key)
		a.mu.Unlock()
		close(r.done)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return user{}, ctx.Err()
	}
	if r.err != nil {
		return user{}, r.err
	}
	return *r.user, nil
}

// review has the API server say whose a token is, and remembers it.
func (a *authenticator) review(ctx context.Context, token string, key [32]byte) (*user, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewLimit)
	defer cancel()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	review, err := a.client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		a.log.Warn("kubelet API: a token cannot be reviewed", slog.Any("error", err))
		return nil, errors.New("the bearer token cannot be reviewed now; the relay's log says why")
	}
	if !review.Status.Authenticated {
		a.tokens.put(key, nil, tokenBad)
		return nil, errToken
	}
	of := review.Status.User
	u := &user{name: of.Username, uid: of.UID, groups: of.Groups}
	for k, v := range of.Extra {
		if u.extra == nil {
			u.extra = map[string][]string{}
		}
		u.extra[k] = v
	}
	a.tokens.put(key, u, tokenGood)
	return u, nil
}

var (
	errToken  = errors.New("the bearer token is not valid")
	errTokens = fmt.Errorf("%d bearer tokens from this address have just been found not valid: try again in %v", badTokens, tokenBad)
)
