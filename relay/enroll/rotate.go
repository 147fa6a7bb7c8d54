package enroll

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Errors of rotating the CA.
var (
	ErrRotating    = errors.New("a rotation of the CA is under way")
	ErrNotRotating = errors.New("no rotation of the CA is under way")
)

// BeginRotation makes a successor of the CA, signed by it, and lets it sign from now on. Both are trusted until FinishRotation. It
// returns the CA that signs now. docs/adr/0005-ca-rotation.md has the whole story.
func BeginRotation(ctx context.Context, c kubernetes.Interface, now time.Time) (*CA, error) {
	return editCA(ctx, c, now, func(old *CA) (*CA, error) {
		if old.previous != nil {
			return nil, fmt.Errorf("%w since %s: end it with `skerryctl ca finish` or `skerryctl ca abort`", ErrRotating, old.began.UTC().Format(time.RFC3339))
		}
		// It begins when the first CA did: a gateway without a clock that slept through this verifies relays at the time of its
		// own last certificate.
		next, err := newCA(old.cert.NotBefore, now.Add(caLifetime))
		if err != nil {
			return nil, err
		}
		return succeed(old, next, now)
	})
}

// AbortRotation lets the CA sign again that did before; what the other has signed meanwhile stays good, until FinishRotation
// retires that one.
func AbortRotation(ctx context.Context, c kubernetes.Interface, now time.Time) (*CA, error) {
	return editCA(ctx, c, now, func(ca *CA) (*CA, error) {
		if ca.previous == nil {
			return nil, ErrNotRotating
		}
		old := *ca
		old.cross = slices.DeleteFunc(slices.Clone(ca.cross), func(x *x509.Certificate) bool { return samePrincipal(x, ca.cert) })
		return succeed(&old, ca.previous, now)
	})
}

// FinishRotation takes the trust from the CA that signed before, and deletes its key. Its certificates open no sessions
// then, and can be renewed by gateways that slept, for as long as one that was signed now could be.
func FinishRotation(ctx context.Context, c kubernetes.Interface, now time.Time) (*CA, error) {
	return editCA(ctx, c, now, func(ca *CA) (*CA, error) {
		if ca.previous == nil {
			return nil, ErrNotRotating
		}
		next := *ca
		next.previous, next.began = nil, time.Time{}
		next.roots = append([]*x509.Certificate{ca.cert}, others(ca.roots, ca.cert, ca.previous.cert)...)
		next.retired = newest(append([]retiredCA{{ca.previous.cert, now.UTC().Truncate(time.Second)}}, ca.retired...))
		return &next, nil
	})
}

// ReplaceCA makes a CA that has nothing to do with the one before: for a CA whose key others may have. Nothing that the old one
// has signed is worth anything any more, and every gateway must join anew.
func ReplaceCA(ctx context.Context, c kubernetes.Interface, now time.Time) (*CA, error) {
	return editCA(ctx, c, now, func(*CA) (*CA, error) { return NewCA(now) })
}

// succeed returns next as the CA that signs, vouched for by old.
func succeed(old, next *CA, now time.Time) (*CA, error) {
	cross, err := old.crossSign(next.cert)
	if err != nil {
		return nil, fmt.Errorf("sign the successor with the old CA: %w", err)
	}
	return &CA{
		cert: next.cert, key: next.key,
		roots:    append([]*x509.Certificate{next.cert, old.cert}, others(old.roots, next.cert, old.cert)...),
		previous: &CA{cert: old.cert, key: old.key},
		began:    now.UTC().Truncate(time.Second),
		cross:    newest(append([]*x509.Certificate{cross}, current(old.cross, now)...)),
		retired:  old.retired,
	}, nil
}

// crossSign vouches for another CA: whoever trusts ca can verify what next has signed, as long as ca's certificate lives.
func (ca *CA) crossSign(next *x509.Certificate) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	until := next.NotAfter
	if until.After(ca.cert.NotAfter) {
		until = ca.cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: next.Subject, SubjectKeyId: next.SubjectKeyId,
		NotBefore: ca.cert.NotBefore, NotAfter: until,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, next.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Orphans says whether gateways that know only the CA before this one cannot verify this one: CAs of releases before rotation
// were made to sign no other CA.
func (ca *CA) Orphans() bool { return ca.previous != nil && ca.previous.cert.MaxPathLenZero }

func samePrincipal(a, b *x509.Certificate) bool {
	return string(a.RawSubject) == string(b.RawSubject) && string(a.SubjectKeyId) == string(b.SubjectKeyId)
}

// others are the certificates of list but those: of CAs that were put into ca.crt by hand, who is trusted by them stays trusted.
func others(list []*x509.Certificate, but ...*x509.Certificate) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(list), func(c *x509.Certificate) bool { return slices.ContainsFunc(but, c.Equal) })
}

func current(list []*x509.Certificate, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(list), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
}

func newest[T any](list []T) []T {
	return list[:min(len(list), maxGenerations)]
}

func editCA(ctx context.Context, c kubernetes.Interface, now time.Time, edit func(*CA) (*CA, error)) (*CA, error) {
	s, ca, err := readCA(ctx, c)
	if err != nil {
		return nil, err
	}
	next, err := edit(ca)
	if err != nil {
		return nil, err
	}
	next, _ = next.dated(now)
	if err := next.into(s); err != nil {
		return nil, err
	}
	// Somebody else who rotates at the same time has made a CA of his own: no second attempt.
	if _, err := c.CoreV1().Secrets(Namespace).Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("write Secret %s/%s: %w", Namespace, CASecret, err)
	}
	return next, nil
}

// CAInfo is one CA, for people.
type CAInfo struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // StateSigning and the like
	NotAfter time.Time `json:"notAfter"`
	Retired  time.Time `json:"retired,omitzero"` // since when, if it is and that is known
}

// States of a CA.
const (
	StateSigning  = "signing"  // signs, and is trusted
	StatePrevious = "previous" // during a rotation: does not sign, is trusted, can be made to sign again
	StateTrusted  = "trusted"  // put into ca.crt by hand
	StateRetired  = "retired"  // what it signed can be renewed, and nothing else
)

// All returns the CA that signs, and then the others.
func (ca *CA) All() []CAInfo {
	out := []CAInfo{{Name: ca.Name(), State: StateSigning, NotAfter: ca.cert.NotAfter}}
	for _, c := range ca.roots[1:] {
		state := StateTrusted
		if ca.previous != nil && c.Equal(ca.previous.cert) {
			state = StatePrevious
		}
		out = append(out, CAInfo{Name: c.Subject.CommonName, State: state, NotAfter: c.NotAfter})
	}
	for _, r := range ca.retired {
		out = append(out, CAInfo{Name: r.cert.Subject.CommonName, State: StateRetired, NotAfter: r.cert.NotAfter, Retired: r.at})
	}
	return out
}

// Rotating says since when a rotation is under way; zero: none is.
func (ca *CA) Rotating() time.Time {
	if ca.previous == nil {
		return time.Time{}
	}
	return ca.began
}
