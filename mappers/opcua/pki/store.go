package pki

import (
	"crypto/sha1" //nolint:gosec // the thumbprint by which OPC UA tools name certificates; nothing is trusted for it alone
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// The states of a certificate in a list.
const (
	StateOwn      = "own"
	StateTrusted  = "trusted"
	StateIssuer   = "issuer"
	StateRejected = "rejected"
)

// folders are made by Open.
var folders = [...]string{"own/certs", "own/private", "trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected/certs"}

// Store is a folder of certificates. It is safe for concurrent use and needs no closing.
type Store struct {
	dir string
	now func() time.Time
	// host names this machine in a new certificate.
	host func() (name string, addresses []string)

	mu     sync.Mutex
	own    *Own
	budget budget // of writes to the rejected folder: strangers cause them
}

// Open makes the folders of a store, and nothing else.
func Open(dir string) (*Store, error) {
	for _, f := range folders {
		if err := os.MkdirAll(filepath.Join(dir, f), 0o700); err != nil {
			return nil, fmt.Errorf("make the folder of OPC UA certificates: %w", err)
		}
	}
	return &Store{dir: dir, now: time.Now, host: hostNames}, nil
}

// Fingerprint is the SHA-256 of a certificate in hexadecimal, as lists show it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// filed is a certificate of a folder.
type filed struct {
	path string
	cert *x509.Certificate
}

// load reads the certificates of a folder; what cannot be read as one is passed over, since people put files there.
func load(dir string) ([]filed, error) {
	paths, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	var out []filed
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			continue // removed meanwhile, too large, or not readable
		}
		if cert, err := x509.ParseCertificate(toDER(data, "CERTIFICATE")); err == nil {
			out = append(out, filed{path: path, cert: cert})
		}
	}
	return out, nil
}

func (s *Store) certs(state string) ([]filed, error) {
	dir := map[string]string{StateOwn: "own", StateTrusted: "trusted", StateIssuer: "issuers", StateRejected: "rejected"}[state]
	return load(filepath.Join(s.dir, dir, "certs"))
}

// Certificates implements device.Truster: all that the store holds, the own one first.
func (s *Store) Certificates() ([]device.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []device.Certificate
	for _, state := range []string{StateOwn, StateTrusted, StateIssuer, StateRejected} {
		list, err := s.certs(state)
		if err != nil {
			return nil, fmt.Errorf("list %s OPC UA certificates: %w", state, err)
		}
		for _, f := range list {
			out = append(out, device.Certificate{
				Fingerprint: Fingerprint(f.cert.Raw), Subject: f.cert.Subject.String(), Issuer: f.cert.Issuer.String(),
				ApplicationURI: applicationURI(f.cert), NotBefore: f.cert.NotBefore, NotAfter: f.cert.NotAfter, State: state, Path: f.path,
			})
		}
	}
	return out, nil
}

// Trust implements device.Truster: the rejected certificate of this fingerprint is trusted from now on.
func (s *Store) Trust(fingerprint string) error {
	return s.move(fingerprint, StateRejected, StateTrusted)
}

// Reject implements device.Truster: the trusted certificate of this fingerprint is not trusted any more. Connections that
// are open stay open.
func (s *Store) Reject(fingerprint string) error {
	return s.move(fingerprint, StateTrusted, StateRejected)
}

// move carries a certificate from one list to another. It is never in neither, whenever the power fails.
func (s *Store) move(fingerprint, from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	target := map[string]string{StateTrusted: "trusted", StateRejected: "rejected"}[to]
	there, err := s.certs(to)
	if err != nil {
		return err
	}
	here, err := s.certs(from)
	if err != nil {
		return err
	}
	f, err := find(here, fingerprint)
	if err != nil {
		if _, already := find(there, fingerprint); already == nil {
			return nil
		}
		return fmt.Errorf("no %s certificate has the fingerprint %q: %w", from, clip(fingerprint), err)
	}
	if err := replace(filepath.Join(s.dir, target, "certs", Fingerprint(f.cert.Raw)+".der"), f.cert.Raw); err != nil {
		return fmt.Errorf("file the certificate of %s as %s: %w", f.cert.Subject, to, err)
	}
	for _, h := range here { // it may be there twice, under names of its own
		if h.cert.Equal(f.cert) {
			if err := remove(h.path); err != nil {
				return fmt.Errorf("take the certificate of %s out of the %s: %w", f.cert.Subject, from, err)
			}
		}
	}
	return nil
}

// minPrefix is how many digits of a fingerprint may stand for all.
const minPrefix = 8

var (
	errNoSuch  = errors.New("see skerryctl device trust list")
	errSeveral = errors.New("several begin so: give more digits")
)

// find returns the certificate that a fingerprint names: SHA-256, the beginning of it, or the SHA-1 thumbprint that other
// tools show; colons, blanks and case do not matter.
func find(list []filed, fingerprint string) (filed, error) {
	want := strings.ToLower(strings.NewReplacer(":", "", " ", "", "-", "").Replace(fingerprint))
	var found []filed
	for _, f := range list {
		thumb := sha1.Sum(f.cert.Raw) //nolint:gosec // see the import
		full := Fingerprint(f.cert.Raw)
		hit := want == hex.EncodeToString(thumb[:]) || len(want) >= minPrefix && strings.HasPrefix(full, want)
		if hit && !slices.ContainsFunc(found, func(o filed) bool { return o.cert.Equal(f.cert) }) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return filed{}, errNoSuch
	case 1:
		return found[0], nil
	default:
		return filed{}, errSeveral
	}
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// applicationURI is the first URI among a certificate's alternative names (OPC 10000-6 table 36), or "".
func applicationURI(c *x509.Certificate) string {
	if len(c.URIs) == 0 {
		return ""
	}
	return c.URIs[0].String()
}
