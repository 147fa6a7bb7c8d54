package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// golden is a token that must be readable for ever: gateways in the field meet relays of later releases.
const golden = "skt1.EGFiY2QyMzQ1ZWZnaDY3MjMAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHwlndy0xLnNpdGUBbzCCAWswggERoAMCAQICAQEwCgYIKoZIzj0EAwIwHTEbMBkGA1UEAxMSU2tlcnJ5IENBIDAxMDIwMzA0MB4XDTIzMTExNDIyMTMyMFoXDTMzMDUxODAzMzMyMFowHTEbMBkGA1UEAxMSU2tlcnJ5IENBIDAxMDIwMzA0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqt5DdFn_-g1Fig9FqU5jCD9v7pxoMdBAwZ7ls8Hjg3c_jmW2H_OuJN9o-Dx1JQoO6OwJZrJtUUSEXb_7PB0ugaNCMEAwDgYDVR0PAQH_BAQDAgIEMA8GA1UdEwEB_wQFMAMBAf8wHQYDVR0OBBYEFFZyFsFIXPXvunZbJ_PgxHEfSmIUMAoGCCqGSM49BAMCA0gAMEUCIQC8uJU4y1RIySNqvB7DsUnWydKuE6StXcOX0P3oaZeQAQIgUule1AeWEgDxhHtjaoEwmxRus9m5EEqy8hn9aFQc2SJfVYb4"

func newToken(t testing.TB, isCA bool) Token {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Skerry CA 01020304"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(2_000_000_000, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: isCA,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	tok := Token{ID: "abcd2345efgh6723", Node: "gw-1.site", CA: c}
	for i := range tok.Secret {
		tok.Secret[i] = byte(i)
	}
	return tok
}

func TestTokenGolden(t *testing.T) {
	tok, err := ParseToken(golden)
	if err != nil {
		t.Fatal(err)
	}
	if tok.ID != "abcd2345efgh6723" || tok.Node != "gw-1.site" || tok.Secret[31] != 31 || tok.CA.Subject.CommonName != "Skerry CA 01020304" {
		t.Errorf("decoded %+v", tok)
	}
	if tok.String() != golden {
		t.Error("encoding it again gives another token")
	}
}

func TestTokenSurvivesTerminals(t *testing.T) {
	s := newToken(t, true).String()
	if _, err := ParseToken("  " + s[:80] + "\r\n" + s[80:] + "\n"); err != nil {
		t.Errorf("a token with line breaks: %v", err)
	}
}

func TestTokenDamage(t *testing.T) {
	tok := newToken(t, true)
	s := tok.String()
	for n := range len(s) {
		if _, err := ParseToken(s[:n]); err == nil {
			t.Fatalf("the first %d of %d letters pass as a token", n, len(s))
		}
	}
	if _, err := ParseToken(s[:len(s)-9]); !errors.Is(err, ErrCutToken) {
		t.Errorf("a cut token: %v", err)
	}
	for _, c := range []struct {
		in   string
		want error
	}{
		{"", ErrNotToken},
		{"K10abcdef::server:secret", ErrNotToken},
		{"skt2." + s[5:], ErrTokenNewer},
		{strings.Replace(s, s[40:44], "AAAA", 1), ErrCutToken},
		{"skt1.!!!!", ErrCutToken},
		{newToken(t, false).String(), ErrCutToken},
		{strings.Repeat("x", 1<<20), ErrNotToken},
	} {
		_, err := ParseToken(c.in)
		if !errors.Is(err, c.want) {
			t.Errorf("ParseToken(%.20q…) = %v, want %v", c.in, err, c.want)
		}
		if err != nil && len(c.in) > 100 && strings.Contains(err.Error(), c.in[60:90]) {
			t.Errorf("the message repeats the token: %v", err)
		}
	}
}

func TestNodeOf(t *testing.T) {
	uri, _ := url.Parse(URI("gw-1"))
	other, _ := url.Parse(URI("gw-2"))
	good := pkix.Name{CommonName: CommonName("gw-1"), Organization: []string{Organisation}}
	if node, err := NodeOf(&x509.Certificate{Subject: good, URIs: []*url.URL{uri}}); err != nil || node != "gw-1" {
		t.Errorf("NodeOf = %q, %v", node, err)
	}
	for name, c := range map[string]*x509.Certificate{
		"another name":       {Subject: pkix.Name{CommonName: "skerry-relay", Organization: good.Organization}, URIs: []*url.URL{uri}},
		"empty node":         {Subject: pkix.Name{CommonName: "system:node:", Organization: good.Organization}, URIs: []*url.URL{uri}},
		"no organisation":    {Subject: pkix.Name{CommonName: good.CommonName}, URIs: []*url.URL{uri}},
		"a second one":       {Subject: pkix.Name{CommonName: good.CommonName, Organization: []string{Organisation, "system:masters"}}, URIs: []*url.URL{uri}},
		"no URI":             {Subject: good},
		"another node's URI": {Subject: good, URIs: []*url.URL{other}},
		"two URIs":           {Subject: good, URIs: []*url.URL{uri, other}},
	} {
		if node, err := NodeOf(c); err == nil {
			t.Errorf("%s: passes as node %q", name, node)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(golden)
	f.Add(newToken(f, true).String())
	f.Add("skt1.AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		again, err := ParseToken(tok.String())
		if err != nil || again.ID != tok.ID || again.Node != tok.Node || again.Secret != tok.Secret || !again.CA.Equal(tok.CA) {
			t.Fatalf("what parses does not survive a round trip: %v", err)
		}
	})
}

// FuzzDecode gets past the checksum, which stops nearly all of what FuzzParseToken tries.
func FuzzDecode(f *testing.F) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(golden, Prefix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-checkLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		if tok, err := decode(b); err == nil && (tok.CA == nil || tok.Node == "" || !ValidID(tok.ID)) {
			t.Fatalf("decoded %+v", tok)
		}
	})
}
