package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// The status codes of refused certificates (OPC 10000-4 table 100 and section 7.39.2).
const (
	BadCertificateInvalid           = "BadCertificateInvalid"
	BadCertificateChainIncomplete   = "BadCertificateChainIncomplete"
	BadCertificatePolicyCheckFailed = "BadCertificatePolicyCheckFailed"
	BadCertificateUntrusted         = "BadCertificateUntrusted"
	BadCertificateTimeInvalid       = "BadCertificateTimeInvalid"
	BadCertificateIssuerTimeInvalid = "BadCertificateIssuerTimeInvalid"
	BadCertificateHostNameInvalid   = "BadCertificateHostNameInvalid"
	BadCertificateURIInvalid        = "BadCertificateUriInvalid"
	BadCertificateUseNotAllowed     = "BadCertificateUseNotAllowed"
	BadCertificateRevocationUnknown = "BadCertificateRevocationUnknown"
	BadCertificateRevoked           = "BadCertificateRevoked"
)

// Error says why a server's certificate was refused.
type Error struct {
	Status      string // the specification's name, e.g. BadCertificateUntrusted
	Fingerprint string // of the server's certificate; "" if it could not be read
	Reason      string // what is wrong, and what to do
}

func (e *Error) Error() string { return e.Reason + " (" + e.Status + ")" }

// Limits of what a server may send.
const (
	maxSent  = 64 << 10 // bytes of its certificate with the chain
	maxChain = 8        // certificates from the server to the root
	minKey   = 2048     // bits (all policies that are still in use)
	maxKey   = 8192     // bits: verifying costs the square of it
)

// Verify judges a server's certificate, which may be followed by its issuers (OPC 10000-6 section 6.2.6), as it stands in
// the endpoint that will be used. endpointURL is the URL that is dialled; applicationURI is what the server's application
// description says, "" if that is not known. The error is an *Error, or that of the store. A certificate that is not
// trusted is kept among the rejected ones. Warnings are findings that do not keep from connecting.
func (s *Store) Verify(remoteDER []byte, endpointURL, applicationURI string) (warnings []string, err error) {
	sent, err := parseChain(remoteDER)
	if err != nil {
		return nil, &Error{Status: BadCertificateInvalid, Reason: "the server's certificate cannot be read: " + err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &verdict{store: s, leaf: sent[0], sent: sent[1:]}
	for _, step := range []func() error{v.checkKey, v.checkTrust, v.checkTime, v.checkRevoked} {
		if err := step(); err != nil {
			return v.warnings, err
		}
	}
	if err := v.checkURI(applicationURI); err != nil {
		return v.warnings, err
	}
	v.checkHost(endpointURL)
	v.checkUse()
	return v.warnings, nil
}

// parseChain reads a certificate and those that follow it, within the limits.
func parseChain(der []byte) ([]*x509.Certificate, error) {
	switch {
	case len(der) == 0:
		return nil, errors.New("the server sent none")
	case len(der) > maxSent:
		return nil, fmt.Errorf("it has %d bytes; at most %d are accepted", len(der), maxSent)
	}
	chain, err := x509.ParseCertificates(der)
	switch {
	case err != nil:
		return nil, err
	case len(chain) == 0:
		return nil, errors.New("the server sent none")
	case len(chain) > maxChain:
		return nil, fmt.Errorf("it comes with %d issuers; at most %d are accepted", len(chain)-1, maxChain-1)
	}
	for _, c := range chain {
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxKey {
			return nil, fmt.Errorf("it has a key of %d bits; at most %d are accepted", key.N.BitLen(), maxKey)
		}
	}
	return chain, nil
}

// verdict is one certificate on its way through the steps.
type verdict struct {
	store    *Store
	leaf     *x509.Certificate
	sent     []*x509.Certificate // what came with it
	issuers  []*x509.Certificate // from its issuer up, as far as known; empty for a self-signed one
	warnings []string
}

func (v *verdict) fail(status, format string, args ...any) error {
	return &Error{Status: status, Fingerprint: Fingerprint(v.leaf.Raw), Reason: fmt.Sprintf(format, args...)}
}

func (v *verdict) warn(status, format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...)+" ("+status+")")
}

// checkKey holds key and signature to what the policies in use demand (OPC 10000-7).
func (v *verdict) checkKey() error {
	key, ok := v.leaf.PublicKey.(*rsa.PublicKey)
	switch {
	case !ok:
		return v.fail(BadCertificatePolicyCheckFailed, "the server's certificate has a key of type %s; the security policies need RSA", v.leaf.PublicKeyAlgorithm)
	case key.N.BitLen() < minKey || key.N.BitLen() > maxKey:
		return v.fail(BadCertificatePolicyCheckFailed, "the server's certificate has a key of %d bits; %d to %d are accepted: give the server a new certificate", key.N.BitLen(), minKey, maxKey)
	}
	switch v.leaf.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return nil
	default:
		return v.fail(BadCertificatePolicyCheckFailed, "the server's certificate is signed with %s, which is not safe any more: give the server a new certificate", v.leaf.SignatureAlgorithm)
	}
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// checkTrust builds the chain and looks for a certificate of it in the trust list.
func (v *verdict) checkTrust() error {
	trusted, err := v.store.certs(StateTrusted)
	if err != nil {
		return fmt.Errorf("read the trust list: %w", err)
	}
	issuers, err := v.store.certs(StateIssuer)
	if err != nil {
		return fmt.Errorf("read the issuers: %w", err)
	}
	pinned := contains(trusted, v.leaf)
	complete := v.build(trusted, issuers)
	if selfSigned(v.leaf) {
		if err := v.leaf.CheckSignature(v.leaf.SignatureAlgorithm, v.leaf.RawTBSCertificate, v.leaf.Signature); err != nil {
			return v.fail(BadCertificateInvalid, "the signature of the server's certificate is wrong: %v", err)
		}
	}
	if pinned {
		return nil
	}
	for _, c := range v.issuers {
		if contains(trusted, c) {
			return nil
		}
	}
	return v.untrusted(complete)
}

// untrusted files the certificate as rejected and says what to do.
func (v *verdict) untrusted(complete bool) error {
	kept, err := v.store.reject(v.leaf)
	fp := Fingerprint(v.leaf.Raw)
	who := fmt.Sprintf("the server's certificate (%s, fingerprint %s…) is not in the trust list", v.leaf.Subject, fp[:16])
	switch {
	case err != nil:
		return v.fail(BadCertificateUntrusted, "%s, and could not be kept among the rejected ones: %v", who, err)
	case !kept:
		return v.fail(BadCertificateUntrusted, "%s; too many unknown certificates came lately for it to be kept: copy it to %s by hand", who, filepath.Join(v.store.dir, "trusted", "certs"))
	case !complete:
		return v.fail(BadCertificateChainIncomplete, "%s, nor is its issuer (%s) known; to trust it: skerryctl device trust accept %s", who, v.leaf.Issuer, fp[:16])
	default:
		return v.fail(BadCertificateUntrusted, "%s; to trust it: skerryctl device trust accept %s", who, fp[:16])
	}
}

func contains(list []filed, c *x509.Certificate) bool {
	for _, f := range list {
		if f.cert.Equal(c) {
			return true
		}
	}
	return false
}

// build follows the issuers from the leaf up and tells whether the chain ends in a self-signed certificate. Only an issuer
// that is known here, or was sent and is signed by one known here, can make the leaf trusted.
func (v *verdict) build(trusted, issuers []filed) bool {
	pool := make([]*x509.Certificate, 0, len(trusted)+len(issuers)+len(v.sent))
	for _, f := range append(trusted, issuers...) {
		pool = append(pool, f.cert)
	}
	pool = append(pool, v.sent...)
	at := v.leaf
	for len(v.issuers) < maxChain && !selfSigned(at) {
		up := issuerOf(at, pool)
		if up == nil {
			return false
		}
		v.issuers = append(v.issuers, up)
		at = up
	}
	return selfSigned(at)
}

// issuerOf returns the certificate of pool that signed c, which CheckSignatureFrom holds to being an authority's.
func issuerOf(c *x509.Certificate, pool []*x509.Certificate) *x509.Certificate {
	for _, p := range pool {
		if p.IsCA && bytes.Equal(p.RawSubject, c.RawIssuer) && !p.Equal(c) && c.CheckSignatureFrom(p) == nil {
			return p
		}
	}
	return nil
}

// checkTime judges the validity of the certificate and its issuers.
func (v *verdict) checkTime() error {
	now := v.store.now()
	if !v.store.clockSet() {
		v.warn(BadCertificateTimeInvalid, "the clock shows %s: whether the server's certificate is still valid cannot be judged", now.UTC().Format(time.DateOnly))
		return nil
	}
	for i, c := range append([]*x509.Certificate{v.leaf}, v.issuers...) {
		status, who := BadCertificateTimeInvalid, "the server's certificate"
		if i > 0 {
			status, who = BadCertificateIssuerTimeInvalid, fmt.Sprintf("the certificate of the authority %s", c.Subject)
		}
		switch {
		case now.After(c.NotAfter):
			return v.fail(status, "%s expired at %s: give the server a new one", who, c.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.NotBefore):
			return v.fail(status, "%s is valid from %s only, and it is %s: check the clocks of server and gateway", who, c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// checkRevoked looks the certificate and its issuers up in the revocation lists.
func (v *verdict) checkRevoked() error {
	if len(v.issuers) == 0 {
		return nil // nobody but the trust list can revoke a self-signed one
	}
	lists, err := v.store.revocations()
	if err != nil {
		return fmt.Errorf("read the revocation lists: %w", err)
	}
	at := v.leaf
	for _, issuer := range v.issuers {
		known := false
		for _, l := range lists {
			if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || l.CheckSignatureFrom(issuer) != nil {
				continue
			}
			known = true
			for _, r := range l.RevokedCertificateEntries {
				if r.SerialNumber != nil && r.SerialNumber.Cmp(at.SerialNumber) == 0 {
					return v.fail(BadCertificateRevoked, "the authority %s has revoked the certificate of %s at %s", issuer.Subject, at.Subject, r.RevocationTime.UTC().Format(time.RFC3339))
				}
			}
		}
		if !known {
			v.warn(BadCertificateRevocationUnknown, "there is no revocation list of the authority %s", issuer.Subject)
		}
		if at = issuer; selfSigned(at) {
			break
		}
	}
	return nil
}

// revocations reads the lists of both folders; what cannot be read as one is passed over.
func (s *Store) revocations() ([]*x509.RevocationList, error) {
	var out []*x509.RevocationList
	for _, dir := range []string{"trusted", "issuers"} {
		paths, err := listFiles(filepath.Join(s.dir, dir, "crl"))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := readFile(path)
			if err != nil {
				continue
			}
			if l, err := x509.ParseRevocationList(toDER(data, "X509 CRL")); err == nil {
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// checkURI: the certificate must be that of the application which the server says it is.
func (v *verdict) checkURI(want string) error {
	if got := applicationURI(v.leaf); want != "" && got != want {
		return v.fail(BadCertificateURIInvalid, "the server says that it is %q, and its certificate is for %q: the server's configuration and certificate must agree", clip(want), clip(got))
	}
	return nil
}

func (v *verdict) checkHost(endpointURL string) {
	u, err := url.Parse(endpointURL)
	if err != nil || u.Hostname() == "" {
		return
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); ip != nil {
		for _, have := range v.leaf.IPAddresses {
			if have.Equal(ip) {
				return
			}
		}
	}
	for _, name := range v.leaf.DNSNames { // some servers put addresses among the names
		if strings.EqualFold(strings.TrimSuffix(name, "."), strings.TrimSuffix(host, ".")) {
			return
		}
	}
	v.warn(BadCertificateHostNameInvalid, "the server is reached as %s, which is not among the names in its certificate (%s)", clip(host), clip(strings.Join(names(v.leaf), ", ")))
}

func names(c *x509.Certificate) []string {
	out := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// checkUse: the certificate should be for signing, for encrypting keys, and for a server.
func (v *verdict) checkUse() {
	if u := v.leaf.KeyUsage; u != 0 && (u&x509.KeyUsageDigitalSignature == 0 || u&x509.KeyUsageKeyEncipherment == 0) {
		v.warn(BadCertificateUseNotAllowed, "the server's certificate is not marked for digital signature and key encipherment")
	}
	if len(v.leaf.ExtKeyUsage)+len(v.leaf.UnknownExtKeyUsage) == 0 {
		return
	}
	for _, u := range v.leaf.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return
		}
	}
	v.warn(BadCertificateUseNotAllowed, "the server's certificate is not marked for a server")
}
