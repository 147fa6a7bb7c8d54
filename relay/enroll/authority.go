package enroll

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// CAWarning is how long before its end the CA is warned about.
const CAWarning = 180 * day

// AuthorityOptions configures an Authority. Client is required.
type AuthorityOptions struct {
	Client kubernetes.Interface
	Names  []string // of the relay, for IssueServing
	// Changed is told that the CA is another one, or trusts others. It must not block; may be nil.
	Changed func()
	Metrics *metrics.Set     // may be nil
	Log     *slog.Logger     // may be nil
	Now     func() time.Time // default time.Now
}

// Authority follows the CA in its Secret, so that a rotation needs no restart: it has the CA that signs, the relay's certificate,
// and who is trusted, as they are now. A Secret that is deleted or damaged changes nothing but the log. Create it with
// NewAuthority, Load it, then run it. Its methods are safe for concurrent use.
type Authority struct {
	opts    AuthorityOptions
	present atomic.Pointer[present]

	mu     sync.Mutex // of replacing present
	warned time.Time
}

// present is what follows from one state of the Secret. Immutable.
type present struct {
	ca      *CA
	serving *tls.Certificate
	pool    *x509.CertPool
}

// NewAuthority returns an Authority that has no CA yet.
func NewAuthority(o AuthorityOptions) *Authority {
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Authority{opts: o}
	if o.Metrics != nil {
		o.Metrics.NewGauge("skerry_relay_ca_expiry_seconds", func() float64 {
			if ca := a.CA(); ca != nil {
				return float64(ca.cert.NotAfter.Unix())
			}
			return 0
		})
		o.Metrics.NewGauge("skerry_relay_ca_trusted", func() float64 {
			if ca := a.CA(); ca != nil {
				return float64(len(ca.roots))
			}
			return 0
		})
	}
	return a
}

// Load reads the CA. It fails with ErrNoCA if there is none.
func (a *Authority) Load(ctx context.Context) error {
	ca, err := LoadCA(ctx, a.opts.Client)
	if err != nil {
		return err
	}
	return a.set(ca)
}

// CA returns the CA that signs; nil before Load.
func (a *Authority) CA() *CA {
	if p := a.present.Load(); p != nil {
		return p.ca
	}
	return nil
}

// Pool returns the CAs whose client certificates are accepted: the same pool until they change.
func (a *Authority) Pool() *x509.CertPool {
	if p := a.present.Load(); p != nil {
		return p.pool
	}
	return x509.NewCertPool()
}

// Trusts says whether certificates are accepted that one of the CAs signed for which is is true.
func (a *Authority) Trusts(is func(ca *x509.Certificate) bool) bool {
	p := a.present.Load()
	if p == nil {
		return false
	}
	for _, c := range p.ca.roots {
		if is(c) {
			return true
		}
	}
	return false
}

// ServerTLS is CA.ServerTLS with the relay's certificate as it is at each handshake. ClientCAs are those of now: ask Pool.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientCAs:  a.Pool(),
		ClientAuth: tls.VerifyClientCertIfGiven,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if p := a.present.Load(); p != nil {
				return p.serving, nil
			}
			return nil, ErrNoCA
		},
	}
}

func (a *Authority) set(ca *CA) error {
	a.mu.Lock()
	was := a.present.Load()
	if was != nil && ca.same(was.ca) {
		a.mu.Unlock()
		return nil
	}
	serving, err := ca.IssueServing(a.opts.Names)
	if err != nil {
		a.mu.Unlock()
		return fmt.Errorf("serving certificate for %q: %w", a.opts.Names, err)
	}
	a.present.Store(&present{ca: ca, serving: &serving, pool: ca.Pool()})
	a.mu.Unlock()
	a.warn()
	if _, undated := ca.dated(a.opts.Now()); undated {
		a.opts.Log.Warn("the Secret with the CA does not say when CAs in retired.crt were retired, so their certificates can be renewed without an end: run `skerryctl init` of this release, which dates them from now",
			"secret", Namespace+"/"+CASecret)
	}
	if was != nil {
		a.opts.Log.Warn("the CA has changed", "signs", ca.Name(), "signed", was.ca.Name(), "trusted", names(ca.roots), "rotating", ca.previous != nil)
		a.opts.Changed()
	}
	return nil
}

// Run follows the Secret until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	secrets := a.opts.Client.CoreV1().Secrets(Namespace)
	only := fields.OneTermEqualSelector("metadata.name", CASecret).String()
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = only
				return secrets.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				return secrets.Watch(ctx, o)
			},
		}, a.opts.Client),
		ObjectType: &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    a.see,
			UpdateFunc: func(_, now any) { a.see(now) },
			DeleteFunc: func(any) {
				a.opts.Log.Error("the Secret with the CA was deleted; this relay goes on with the CA that it has, and none that starts now serves anybody: restore it from a backup",
					"secret", Namespace+"/"+CASecret)
			},
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(time.Hour)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				a.warn()
			}
		}
	})
	informer.RunWithContext(ctx)
	wg.Wait()
	return ctx.Err()
}

func (a *Authority) see(obj any) {
	s, ok := obj.(*corev1.Secret)
	if !ok || s.Name != CASecret {
		return
	}
	ca, err := parseSecret(s)
	if err == nil {
		err = a.set(ca)
	}
	if err != nil {
		a.opts.Log.Error("the Secret with the CA is damaged; this relay goes on with the CA that it has", "error", err)
	}
}

// warn tells once a day of a CA that will end.
func (a *Authority) warn() {
	ca, now := a.CA(), a.opts.Now()
	if ca == nil {
		return
	}
	left := ca.Left(now)
	a.mu.Lock()
	due := left < CAWarning && now.Sub(a.warned) >= day
	if due {
		a.warned = now
	}
	a.mu.Unlock()
	if due {
		a.opts.Log.Warn("the CA ends soon: begin a rotation with `skerryctl ca rotate`; with its end every gateway would have to join anew",
			"ca", ca.Name(), "ends", ca.cert.NotAfter.UTC().Format(time.RFC3339), "days", int(left/day))
	}
}

// Left is how long the CA lives.
func (ca *CA) Left(now time.Time) time.Duration { return ca.cert.NotAfter.Sub(now) }

// same says whether nothing follows from the difference between two states of the Secret.
func (ca *CA) same(o *CA) bool {
	equal := func(a, b []*x509.Certificate) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if !a[i].Equal(b[i]) {
				return false
			}
		}
		return true
	}
	return ca.cert.Equal(o.cert) && equal(ca.roots, o.roots) && equal(ca.cross, o.cross) && slices.EqualFunc(ca.retired, o.retired, func(a, b retiredCA) bool { return a.cert.Equal(b.cert) && a.at.Equal(b.at) }) && (ca.previous == nil) == (o.previous == nil)
}

func names(list []*x509.Certificate) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Subject.CommonName)
	}
	return out
}
