package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

var _ device.Truster = (*Store)(nil)

var today = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "opcua"))
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return today }
	s.host = func() (string, []string) { return "gw-1", []string{"10.0.0.1"} }
	return s
}

// keys are made once: they are what tests of certificates wait for.
var serverKey, authorityKey = sync.OnceValue(func() *rsa.PrivateKey { return makeKey(2048) }), sync.OnceValue(func() *rsa.PrivateKey { return makeKey(2048) })

func makeKey(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

// server is a template of a good server's certificate.
func server() *x509.Certificate {
	uri, err := url.Parse("urn:plc-7:vendor:server")
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "PLC 7"}, NotBefore: today.Add(-time.Hour), NotAfter: today.Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageContentCommitment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, URIs: []*url.URL{uri}, DNSNames: []string{"plc-7"}, IPAddresses: []net.IP{net.ParseIP("10.0.0.7")},
	}
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: today.Add(-time.Hour), NotAfter: today.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name),
	}
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub any, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func selfSign(t testing.TB, tmpl *x509.Certificate) []byte {
	return sign(t, tmpl, tmpl, &serverKey().PublicKey, serverKey())
}

func file(t testing.TB, s *Store, folder, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, folder, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	serverURL = "opc.tcp://plc-7:4840/path"
	serverURI = "urn:plc-7:vendor:server"
)

func expectStatus(t *testing.T, err error, status string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Status != status {
		t.Fatalf("%v; want %s", err, status)
	}
	return e
}

func TestOwnIsMadeOnce(t *testing.T) {
	s := open(t)
	own, err := s.Own()
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(own.DER)
	if err != nil {
		t.Fatal(err)
	}
	if own.ApplicationURI != "urn:gw-1:skerry:skerryd" || applicationURI(c) != own.ApplicationURI || c.DNSNames[0] != "gw-1" || c.IPAddresses[0].String() != "10.0.0.1" {
		t.Errorf("names: %q %v %v", own.ApplicationURI, c.DNSNames, c.IPAddresses)
	}
	if own.Key.N.BitLen() < 2048 || c.NotBefore.After(today) || !c.NotAfter.Equal(own.NotAfter) || c.NotAfter.Before(today.AddDate(9, 0, 0)) {
		t.Errorf("%d bits, valid %v to %v", own.Key.N.BitLen(), c.NotBefore, c.NotAfter)
	}
	for _, f := range []string{"own/private/skerryd.pem", "own/certs/skerryd.der"} {
		if info, err := os.Stat(filepath.Join(s.dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info, err)
		}
	}
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	same, err := again.Own()
	if err != nil || !bytes.Equal(same.DER, own.DER) || !same.Key.Equal(own.Key) {
		t.Errorf("after a restart it is another one: %v", err)
	}
}

func TestOwnAtTheWrongTime(t *testing.T) {
	s := open(t)
	s.now = func() time.Time { return time.Unix(3600, 0) }
	if _, err := s.Own(); !errors.Is(err, ErrClock) {
		t.Fatalf("in 1970: %v", err)
	}
	if left, err := listFiles(filepath.Join(s.dir, "own/certs")); err != nil || len(left) != 0 {
		t.Errorf("made in 1970: %v %v", left, err)
	}
	s.now = func() time.Time { return today }
	own, err := s.Own()
	if err != nil {
		t.Fatal(err)
	}
	s, err = Open(s.dir) // rebooted without a clock: what is there is used
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Unix(3600, 0) }
	if same, err := s.Own(); err != nil || !bytes.Equal(same.DER, own.DER) {
		t.Errorf("in 1970, with a certificate: %v", err)
	}
}

func TestOwnIsRenewed(t *testing.T) {
	s := open(t)
	own, err := s.Own()
	if err != nil {
		t.Fatal(err)
	}
	at := func(before time.Duration) *Own {
		s.now = func() time.Time { return own.NotAfter.Add(-before) }
		got, err := s.Own()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := at(successor + time.Hour); !bytes.Equal(got.DER, own.DER) {
		t.Error("renewed too early")
	}
	if got := at(successor - time.Hour); !bytes.Equal(got.DER, own.DER) {
		t.Error("taken over too early")
	}
	next, err := readFile(s.ownPath("skerryd-next.der"))
	if err != nil {
		t.Fatal("there is no successor to import: ", err)
	}
	got := at(takeover - time.Hour)
	if !bytes.Equal(got.DER, next) || got.ApplicationURI != own.ApplicationURI || !got.Key.Equal(own.Key) || !got.NotAfter.After(own.NotAfter) {
		t.Errorf("the successor is %q until %v", got.ApplicationURI, got.NotAfter)
	}
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	again.now = s.now
	if same, err := again.Own(); err != nil || !bytes.Equal(same.DER, next) {
		t.Errorf("after a restart: %v", err)
	}
}

// TestOwnOfAnAuthority: a pair that was put there by hand is used, never replaced, and refused if it does not fit.
func TestOwnOfAnAuthority(t *testing.T) {
	s := open(t)
	der, err := x509.MarshalPKCS8PrivateKey(serverKey())
	if err != nil {
		t.Fatal(err)
	}
	file(t, s, "own/private", "skerryd.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	signed := sign(t, server(), authority("ca"), &serverKey().PublicKey, authorityKey())
	file(t, s, "own/certs", "skerryd.der", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
	if own, err := s.Own(); err != nil || !bytes.Equal(own.DER, signed) {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(s.ownPath("skerryd-next.der")); err == nil {
		t.Error("an authority's certificate got a self-signed successor")
	}
	s.own = nil
	file(t, s, "own/certs", "skerryd.der", sign(t, server(), authority("ca"), &authorityKey().PublicKey, authorityKey()))
	if _, err := s.Own(); err == nil || !strings.Contains(err.Error(), "skerryd.pem") {
		t.Errorf("a certificate for another key: %v", err)
	}
}

func TestTrustFlow(t *testing.T) {
	s := open(t)
	der := selfSign(t, server())
	_, err := s.Verify(der, serverURL, serverURI)
	e := expectStatus(t, err, BadCertificateUntrusted)
	if !strings.Contains(e.Reason, "skerryctl device trust accept "+e.Fingerprint[:16]) {
		t.Errorf("the reason does not say what to do: %s", e.Reason)
	}
	list, err := s.Certificates()
	if err != nil || len(list) != 1 || list[0].State != StateRejected || list[0].Fingerprint != e.Fingerprint || list[0].ApplicationURI != serverURI {
		t.Fatalf("%+v %v", list, err)
	}
	for _, wrong := range []string{"", "00", e.Fingerprint[:7], strings.Repeat("0", 64)} {
		if err := s.Trust(wrong); err == nil {
			t.Errorf("trusted by %q", wrong)
		}
	}
	spelt := strings.ToUpper(e.Fingerprint[:2] + ":" + e.Fingerprint[2:4] + " " + e.Fingerprint[4:20])
	if err := s.Trust(spelt); err != nil {
		t.Fatal(err)
	}
	if err := s.Trust(e.Fingerprint); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if w, err := s.Verify(der, serverURL, serverURI); err != nil || len(w) != 0 {
		t.Errorf("trusted: %v %v", w, err)
	}
	if err := s.Reject(e.Fingerprint); err != nil {
		t.Fatal(err)
	}
	_, err = s.Verify(der, serverURL, serverURI)
	_ = expectStatus(t, err, BadCertificateUntrusted)
}

func TestVerifySteps(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small := makeKey(1024)
	changed := func(f func(c *x509.Certificate)) []byte {
		c := server()
		f(c)
		return selfSign(t, c)
	}
	good := selfSign(t, server())
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	for _, c := range []struct {
		name, status string
		der          []byte
		warn         string
		url, uri     string
	}{
		{name: "good", der: good},
		{name: "good, by address", der: good, url: "opc.tcp://10.0.0.7:4840"},
		{name: "no certificate", status: BadCertificateInvalid},
		{name: "rubbish", der: []byte("rubbish"), status: BadCertificateInvalid},
		{name: "too long", der: make([]byte, maxSent+1), status: BadCertificateInvalid},
		{name: "wrong signature", der: broken, status: BadCertificateInvalid},
		{name: "not RSA", der: sign(t, server(), server(), &ec.PublicKey, ec), status: BadCertificatePolicyCheckFailed},
		{name: "small key", der: sign(t, server(), server(), &small.PublicKey, small), status: BadCertificatePolicyCheckFailed},
		{name: "expired", der: changed(func(c *x509.Certificate) { c.NotAfter = today.Add(-time.Minute) }), status: BadCertificateTimeInvalid},
		{name: "not yet", der: changed(func(c *x509.Certificate) { c.NotBefore = today.Add(time.Minute) }), status: BadCertificateTimeInvalid},
		{name: "another application", der: good, uri: "urn:else", status: BadCertificateURIInvalid},
		{name: "no application", der: changed(func(c *x509.Certificate) { c.URIs = nil }), status: BadCertificateURIInvalid},
		{name: "another host", der: good, url: "opc.tcp://10.0.0.8:4840", warn: BadCertificateHostNameInvalid},
		{name: "not for signing", der: changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDataEncipherment }), warn: BadCertificateUseNotAllowed},
		{name: "a client's", der: changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), warn: BadCertificateUseNotAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			if len(c.der) > 0 {
				file(t, s, "trusted/certs", "it.der", c.der)
			}
			if c.url == "" {
				c.url = serverURL
			}
			if c.uri == "" {
				c.uri = serverURI
			}
			w, err := s.Verify(c.der, c.url, c.uri)
			if c.status != "" {
				_ = expectStatus(t, err, c.status)
			} else if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w, "; "); (c.warn == "") != (got == "") || !strings.Contains(got, c.warn) {
				t.Errorf("warnings %q, want %q", got, c.warn)
			}
		})
	}
}

// TestClockNotSet: a gateway without a battery reaches what it trusts, and trusts nobody else.
func TestClockNotSet(t *testing.T) {
	s := open(t)
	s.now = func() time.Time { return time.Unix(60, 0) }
	der := selfSign(t, server())
	_, err := s.Verify(der, serverURL, serverURI)
	_ = expectStatus(t, err, BadCertificateUntrusted)
	file(t, s, "trusted/certs", "it.der", der)
	w, err := s.Verify(der, serverURL, serverURI)
	if err != nil || len(w) != 1 || !strings.Contains(w[0], "1970") {
		t.Errorf("%v %v", w, err)
	}
}

func TestAuthorities(t *testing.T) {
	root, middle := authority("root"), authority("middle")
	rootDER := sign(t, root, root, &authorityKey().PublicKey, authorityKey())
	middleDER := sign(t, middle, root, &authorityKey().PublicKey, authorityKey())
	leaf := sign(t, server(), middle, &serverKey().PublicKey, authorityKey())
	list := func(of *x509.Certificate, serials ...int64) []byte {
		tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: today, NextUpdate: today.Add(time.Hour)}
		for _, n := range serials {
			tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: today})
		}
		der, err := x509.CreateRevocationList(rand.Reader, tmpl, of, authorityKey())
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	type put struct {
		folder string
		data   []byte
	}
	past := authority("root")
	past.NotAfter = today.Add(-time.Second)
	expired := sign(t, past, past, &authorityKey().PublicKey, authorityKey())
	for _, c := range []struct {
		name, status string
		sent         []byte
		files        []put
		warnings     int
	}{
		{name: "nobody knows the issuer", sent: leaf, status: BadCertificateChainIncomplete},
		{name: "a chain that is sent proves nothing", sent: bytes.Join([][]byte{leaf, middleDER, rootDER}, nil), status: BadCertificateUntrusted},
		{name: "root trusted, the rest sent", sent: bytes.Join([][]byte{leaf, middleDER}, nil), files: []put{{"trusted/certs", rootDER}}, warnings: 2},
		{name: "root trusted, the rest known", sent: leaf, files: []put{{"trusted/certs", rootDER}, {"issuers/certs", middleDER}}, warnings: 2},
		{name: "issuers alone do not trust", sent: leaf, files: []put{{"issuers/certs", rootDER}, {"issuers/certs", middleDER}}, status: BadCertificateUntrusted},
		{name: "middle trusted", sent: leaf, files: []put{{"trusted/certs", middleDER}}, warnings: 1},
		{name: "with lists", sent: leaf, files: []put{{"trusted/certs", middleDER}, {"issuers/certs", rootDER}, {"trusted/crl", list(middle, 5)}, {"issuers/crl", list(root)}}},
		{name: "revoked", sent: leaf, files: []put{{"trusted/certs", middleDER}, {"trusted/crl", list(middle, 5, 77)}}, status: BadCertificateRevoked},
		{name: "pinned, and revoked", sent: leaf, files: []put{{"trusted/certs", leaf}, {"issuers/certs", middleDER}, {"issuers/crl", list(middle, 77)}}, status: BadCertificateRevoked},
		{name: "expired authority", sent: bytes.Join([][]byte{leaf, middleDER}, nil), files: []put{{"trusted/certs", expired}}, status: BadCertificateIssuerTimeInvalid},
		{name: "pinned without its issuer", sent: leaf, files: []put{{"trusted/certs", leaf}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			for i, f := range c.files {
				name := fmt.Sprintf("%d.der", i)
				if strings.HasSuffix(f.folder, "crl") {
					name = fmt.Sprintf("%d.crl", i)
				}
				file(t, s, f.folder, name, f.data)
			}
			w, err := s.Verify(c.sent, serverURL, serverURI)
			if c.status != "" {
				_ = expectStatus(t, err, c.status)
			} else if err != nil || len(w) != c.warnings {
				t.Errorf("%v %q", err, w)
			}
		})
	}
}

// TestLeafIsNoAuthority: a trusted server cannot vouch for others.
func TestLeafIsNoAuthority(t *testing.T) {
	s := open(t)
	file(t, s, "trusted/certs", "plc.der", selfSign(t, server()))
	other := server()
	other.SerialNumber = big.NewInt(78)
	other.Subject = pkix.Name{CommonName: "intruder"}
	_, err := s.Verify(sign(t, other, server(), &authorityKey().PublicKey, serverKey()), serverURL, serverURI)
	_ = expectStatus(t, err, BadCertificateChainIncomplete)
}

// TestRejectedIsBounded: strangers fill neither the folder nor wear out the flash.
func TestRejectedIsBounded(t *testing.T) {
	s := open(t)
	now := today
	s.now = func() time.Time { return now }
	stranger := func(n int) error {
		c := server()
		c.SerialNumber = big.NewInt(int64(n))
		_, err := s.Verify(selfSign(t, c), serverURL, serverURI)
		return err
	}
	for n := 1; n <= budgetSize; n++ {
		_ = expectStatus(t, stranger(n), BadCertificateUntrusted)
	}
	if e := expectStatus(t, stranger(1000), BadCertificateUntrusted); !strings.Contains(e.Reason, "by hand") {
		t.Errorf("beyond the budget: %s", e.Reason)
	}
	count := func() int {
		got, err := s.certs(StateRejected)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if count() != budgetSize {
		t.Errorf("%d are kept after a burst", count())
	}
	for n := 100; n < 100+2*maxRejected; n++ {
		now = now.Add(budgetRefill)
		s.now = func() time.Time { return now }
		c := server()
		c.SerialNumber, c.NotAfter = big.NewInt(int64(n)), now.Add(time.Hour)
		_, err := s.Verify(selfSign(t, c), serverURL, serverURI)
		_ = expectStatus(t, err, BadCertificateUntrusted)
	}
	if count() != maxRejected {
		t.Errorf("%d are kept in the long run", count())
	}
}

// TestForeignFiles: what people leave in the folders does not disturb.
func TestForeignFiles(t *testing.T) {
	s := open(t)
	der := selfSign(t, server())
	file(t, s, "trusted/certs", "a readme.txt", []byte("hello"))
	file(t, s, "trusted/certs", "broken.der", []byte("broken"))
	file(t, s, "trusted/certs", "long.der", make([]byte, maxFile+10))
	file(t, s, "trusted/certs", "it.PEM", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "trusted/certs/link.der")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(der, serverURL, serverURI); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	root := authority("root")
	rootDER := sign(f, root, root, &authorityKey().PublicKey, authorityKey())
	leaf := sign(f, server(), root, &serverKey().PublicKey, authorityKey())
	f.Add(leaf)
	f.Add(append(bytes.Clone(leaf), rootDER...))
	f.Add(selfSign(f, server()))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n"))
	s := open(f)
	file(f, s, "trusted/certs", "root.der", rootDER)
	f.Fuzz(func(t *testing.T, der []byte) {
		_, err := s.Verify(der, serverURL, serverURI)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("not a verdict: %v", err)
		}
		if err == nil && !bytes.HasPrefix(der, leaf) {
			t.Error("a forged certificate is trusted")
		}
		toDER(der, "CERTIFICATE")
	})
}
