package enroll

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/wire/join"
)

// rotating is a relay that follows its CA.
func rotating(t *testing.T, change ...func(*AuthorityOptions)) (*relay, *Authority) {
	t.Helper()
	var a *Authority
	r := startRelayOf(t, func(o *Options) *Authority {
		ao := AuthorityOptions{Client: o.Client}
		for _, f := range change {
			f(&ao)
		}
		a = NewAuthority(ao)
		if err := a.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
		})
		o.CA = a.CA
		return a
	})
	return r, a
}

// follows does what a verb of skerryctl does, and waits until the relay has seen it.
func follows(t *testing.T, a *Authority, do func() (*CA, error)) *CA {
	t.Helper()
	ca, err := do()
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return a.CA().same(ca) })
	return ca
}

// renews renews the identity in dir once, which fails the test unless code is the refusal's.
func (r *relay) renews(t *testing.T, dir string, code join.Code) *identity.Identity {
	t.Helper()
	id, err := identity.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := credentials(t, id)
	status, _, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) })
	var refusal join.Refusal
	if status != http.StatusOK {
		if err := json.Unmarshal(answer, &refusal); err != nil {
			t.Fatal(err)
		}
	}
	if refusal.Code != code {
		t.Fatalf("a renewal is answered %d %s, want code %q", status, answer, code)
	}
	if code != "" {
		return nil
	}
	return renewing(t, r, dir, func(re *identity.Renewer) { re.Refused() })
}

// TestRotation goes through a rotation with three gateways: one that renews in time, one that sleeps through the whole, and one that
// joins meanwhile with a token from before; and then through another.
func TestRotation(t *testing.T) {
	r, a := rotating(t)
	first := a.CA()
	_, awake := r.joined(t, "gw-awake")
	asleepID, asleep := r.joined(t, "gw-asleep")
	before := r.token(t, "gw-late")

	second := follows(t, a, func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) })
	if second.Name() == first.Name() || len(second.roots) != 2 || second.Orphans() || second.Rotating().IsZero() {
		t.Errorf("after begin: %+v", second.All())
	}
	if _, err := BeginRotation(t.Context(), r.client, time.Now()); !errors.Is(err, ErrRotating) {
		t.Errorf("a second rotation = %v", err)
	}
	if id := r.renews(t, awake, ""); id.Issuer() != second.Name() {
		t.Errorf("the renewed certificate is of %q", id.Issuer())
	}
	late := t.TempDir()
	if id, err := r.join(t, before, late); err != nil || id.Issuer() != second.Name() {
		t.Errorf("joining with a token of the old CA: %v", err)
	}
	old, _ := credentials(t, asleepID)
	if _, err := old.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the old CA's certificates open no sessions during the overlap: %v", err)
	}

	finished := follows(t, a, func() (*CA, error) { return FinishRotation(t.Context(), r.client, time.Now()) })
	if finished.Name() != second.Name() || len(finished.roots) != 1 || len(finished.retired) != 1 || finished.previous != nil {
		t.Errorf("after finish: %+v", finished.All())
	}
	if _, err := old.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the retired CA's certificates open sessions")
	}
	secret, err := r.client.CoreV1().Secrets(Namespace).Get(t.Context(), CASecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(bytes.Join([][]byte{secret.Data[fieldPrivateKey], secret.Data[fieldPreviousKey]}, nil), []byte("PRIVATE KEY-----\n")); n != 2 { // one begin, one end
		t.Errorf("%d marks of keys are left in the Secret", n)
	}

	third := follows(t, a, func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) })
	follows(t, a, func() (*CA, error) { return FinishRotation(t.Context(), r.client, time.Now()) })
	if id := r.renews(t, asleep, ""); id.Issuer() != third.Name() { // through two cross-signatures
		t.Errorf("who slept through two rotations has a certificate of %q", id.Issuer())
	}
	r.renews(t, awake, "")
	r.renews(t, late, "")
	if _, err := FinishRotation(t.Context(), r.client, time.Now()); !errors.Is(err, ErrNotRotating) {
		t.Errorf("finish without a rotation = %v", err)
	}
	if _, err := AbortRotation(t.Context(), r.client, time.Now()); !errors.Is(err, ErrNotRotating) {
		t.Errorf("abort without a rotation = %v", err)
	}
}

// TestRotationAborted: the old CA signs again, what the other has signed stays good, and who trusts only the other one is not lost.
func TestRotationAborted(t *testing.T) {
	r, a := rotating(t)
	first := a.CA()
	_, old := r.joined(t, "gw-old")
	second := follows(t, a, func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) })
	r.ca = second // for tokens
	tok := r.token(t, "gw-new")
	_, dir := r.joined(t, "gw-newer")
	back := follows(t, a, func() (*CA, error) { return AbortRotation(t.Context(), r.client, time.Now()) })
	if back.Name() != first.Name() || len(back.roots) != 2 || back.Rotating().IsZero() || len(back.cross) != 1 {
		t.Errorf("after abort: %+v", back.All())
	}
	if id := r.renews(t, dir, ""); id.Issuer() != first.Name() {
		t.Errorf("renewed by %q", id.Issuer())
	}
	if _, err := r.join(t, tok, t.TempDir()); err != nil {
		t.Errorf("joining with a token of the CA that was given up: %v", err)
	}
	r.ca = first
	if id := r.renews(t, old, ""); id.Issuer() != first.Name() {
		t.Errorf("renewed by %q", id.Issuer())
	}
	follows(t, a, func() (*CA, error) { return FinishRotation(t.Context(), r.client, time.Now()) })
	if got := a.CA(); got.Name() != first.Name() || len(got.roots) != 1 {
		t.Errorf("after finish: %+v", got.All())
	}
}

// TestCompromised: nothing that a stolen CA has signed, or could sign, is worth anything.
func TestCompromised(t *testing.T) {
	var changes atomic.Int32
	r, a := rotating(t, func(o *AuthorityOptions) { o.Changed = func() { changes.Add(1) } })
	stolen := a.CA()
	id, dir := r.joined(t, "gw-1")
	follows(t, a, func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) })
	next := follows(t, a, func() (*CA, error) { return ReplaceCA(t.Context(), r.client, time.Now()) })
	if len(next.cross)+len(next.retired) > 0 || len(next.roots) != 1 || next.previous != nil || changes.Load() != 2 {
		t.Errorf("after replacement: %+v, %d changes", next.All(), changes.Load())
	}
	cert, key := credentials(t, id)
	body := func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) }
	r.ca = next
	if status, _, answer := r.post(t, http.MethodPost, body); status != http.StatusForbidden || !bytes.Contains(answer, []byte(join.CodeBadCert)) {
		t.Errorf("a renewal of the stolen CA's certificate: %d %s", status, answer)
	}
	forged, err := stolen.issueNode("gw-2", key.Public(), time.Now(), time.Time{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forged.Verify(x509.VerifyOptions{Roots: a.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("a forged certificate passes")
	}
	// The gateway that trusts the stolen CA finds no relay, and says so.
	re := identity.NewRenewer(identity.RenewOptions{Addresses: []string{r.address}, Dir: dir})
	re.Refused()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- re.Run(ctx) }()
	waitFor(t, func() bool { return strings.Contains(re.Status().LastError, "did not sign") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

// TestAuthorityKeepsWhatItHas when the Secret is damaged or deleted.
func TestAuthorityKeepsWhatItHas(t *testing.T) {
	set := metrics.NewSet()
	r, a := rotating(t, func(o *AuthorityOptions) { o.Metrics = set })
	ca := a.CA()
	secrets := r.client.CoreV1().Secrets(Namespace)
	s, err := secrets.Get(t.Context(), CASecret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	good := s.DeepCopy()
	s.Data[fieldCert] = []byte("nothing")
	if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := BeginRotation(t.Context(), r.client, time.Now()); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("rotating a damaged CA = %v", err)
	}
	if _, err := r.join(t, r.token(t, "gw-1"), t.TempDir()); err != nil || a.CA() != ca {
		t.Errorf("with a damaged Secret: %v", err)
	}
	if err := secrets.Delete(t.Context(), CASecret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.join(t, r.token(t, "gw-2"), t.TempDir()); err != nil || a.CA() != ca {
		t.Errorf("with a deleted Secret: %v", err)
	}
	var page bytes.Buffer
	set.WritePrometheus(&page)
	if !strings.Contains(page.String(), "skerry_relay_ca_trusted 1") || !strings.Contains(page.String(), "skerry_relay_ca_expiry_seconds") {
		t.Errorf("metrics:\n%s", page.String())
	}
	good.ResourceVersion = ""
	if _, err := secrets.Create(t.Context(), good, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	again := follows(t, a, func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) })
	if again.previous == nil || !again.previous.cert.Equal(ca.cert) {
		t.Error("the restored CA is another one")
	}
}

// TestWarnsOfTheEnd half a year ahead, once a day.
func TestWarnsOfTheEnd(t *testing.T) {
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	now := ca.cert.NotAfter.Add(-CAWarning - time.Hour)
	a := NewAuthority(AuthorityOptions{Client: fake.NewClientset(), Log: textLog(&log), Now: func() time.Time { return now }})
	a.warn() // before there is a CA
	if err := a.set(ca); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 1, 1, 2} {
		if got := strings.Count(log.String(), "skerryctl ca rotate"); got != want {
			t.Errorf("look %d: warned %d times, want %d", i, got, want)
		}
		now = now.Add([]time.Duration{2 * time.Hour, time.Hour, 25 * time.Hour, 0}[i])
		a.warn()
	}
	// A certificate never outlives its CA.
	key := ca.key.(*ecdsa.PrivateKey)
	if c, err := ca.issueNode("gw-1", key.Public(), now, time.Time{}, 10*365*day); err != nil || !c.NotAfter.Equal(ca.cert.NotAfter) {
		t.Errorf("it ends at %v (%v)", c.NotAfter, err)
	}
}

// TestOrphans: a CA of the first releases was made to sign no other CA.
func TestOrphans(t *testing.T) {
	ca, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if ca.Orphans() {
		t.Error("without a rotation")
	}
	next, err := succeed(ca, must(NewCA(time.Now())), time.Now())
	if err != nil || next.Orphans() {
		t.Errorf("a CA of today: %v, %v", next.Orphans(), err)
	}
	ca.cert.MaxPathLen, ca.cert.MaxPathLenZero = 0, true
	if next, err = succeed(ca, must(NewCA(time.Now())), time.Now()); err != nil || !next.Orphans() {
		t.Errorf("a CA that limits its path: %v", err)
	}
}

func must(ca *CA, err error) *CA {
	if err != nil {
		panic(err)
	}
	return ca
}

func FuzzParseCA(f *testing.F) {
	ca := must(NewCA(time.Now()))
	s, err := must(succeed(ca, must(NewCA(time.Now())), time.Now())).secret()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Data[fieldCross])
	f.Add(s.Data[fieldRoots])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		data := map[string][]byte{fieldCert: s.Data[fieldCert], fieldPrivateKey: s.Data[fieldPrivateKey], fieldRoots: b, fieldCross: b, fieldRetired: b}
		got, err := parseCA(data)
		if err == nil && (got.key == nil || len(got.roots) == 0 || !got.roots[0].Equal(got.cert)) {
			t.Error("parsed to a CA that cannot sign")
		}
	})
}

// TestRotationKeepsWhatWasPutIntoTheRoots: gateways of a CA that somebody trusts by hand are not locked out by a rotation of another.
func TestRotationKeepsWhatWasPutIntoTheRoots(t *testing.T) {
	r, a := rotating(t)
	guest, err := NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	follows(t, a, func() (*CA, error) {
		return editCA(t.Context(), r.client, time.Now(), func(ca *CA) (*CA, error) {
			next := *ca
			next.roots = append(slices.Clone(ca.roots), guest.cert)
			return &next, nil
		})
	})
	for i, step := range []func() (*CA, error){
		func() (*CA, error) { return BeginRotation(t.Context(), r.client, time.Now()) },
		func() (*CA, error) { return AbortRotation(t.Context(), r.client, time.Now()) },
		func() (*CA, error) { return AbortRotation(t.Context(), r.client, time.Now()) },
		func() (*CA, error) { return FinishRotation(t.Context(), r.client, time.Now()) },
	} {
		ca := follows(t, a, step)
		if want := 3 - i/3; len(ca.roots) != want || !ca.roots[want-1].Equal(guest.cert) || !a.Trusts(guest.cert.Equal) {
			t.Errorf("after step %d: %+v", i, ca.All())
		}
	}
	if ca, err := ReplaceCA(t.Context(), r.client, time.Now()); err != nil || len(ca.roots) != 1 {
		t.Errorf("a CA that replaces a compromised one trusts others: %v", err)
	}
}
