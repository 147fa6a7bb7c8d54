//go:build integration

package attack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/relay/enroll"
)

// joinAttempts try to become a node, or to stay one.
func joinAttempts() []attempt {
	return []attempt{
		{"token-guessing", tryGuess, certificates("too_many_requests"), []string{"source=127.0.4.1", "too_many_requests"}},
		{"token-used-with-another-key", tryUsedToken, certificates("token_used"), []string{"node=NODE", "token_used"}},
		{"token-of-another-node", tryOthersToken, certificates("token_wrong_node"), []string{"node=" + victim, "token_wrong_node"}},
		{"token-expired", tryExpiredToken, certificates("token_expired"), []string{"node=NODE", "token_expired"}},
		{"csr-with-other-names", tryNames, certificates("signed"), []string{"node joined", "node=NODE"}},
		{"renewal-of-anothers-certificate", tryRenewal, certificates("bad_proof"), []string{"node=" + victim, "bad_proof"}},
		{"certificate-of-another-ca", tryOtherCA, turnedAway("tls-handshake"), []string{"127.0.4.3", "tls-handshake", "unknown authority"}},
		{"certificate-expired", tryExpired, turnedAway("tls-handshake"), []string{"127.0.4.4", "tls-handshake", "expired"}},
		{"certificate-revoked", tryRevoked, turnedAway("revoked"), []string{"node=NODE", "revoked"}},
		{"no-certificate", tryNoCertificate, turnedAway("no-certificate"), []string{"127.0.4.2", "no-certificate"}},
	}
}

// post sends a request to one of the relay's endpoints and returns the code of the refusal, "" if there was none.
func post(t *testing.T, a *Attacker, path string, body any) (join.Code, *join.Response) {
	t.Helper()
	c, err := a.TLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return postOver(t, c, path, body)
}

func postOver(t *testing.T, c *tls.Conn, path string, body any) (join.Code, *join.Response) {
	t.Helper()
	tr := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	defer tr.CloseIdleConnections()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://relay"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		var ok join.Response
		if err := json.Unmarshal(answer, &ok); err != nil {
			t.Fatal(err)
		}
		return "", &ok
	}
	var no join.Refusal
	if err := json.Unmarshal(answer, &no); err != nil {
		t.Fatalf("HTTP %d: %s", resp.StatusCode, answer)
	}
	return no.Code, nil
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr makes a certificate request for a key, which asks for all that an attacker could wish for.
func csr(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	uri, err := url.Parse(join.URI(victim))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: join.CommonName(victim), Organization: []string{"system:masters"}},
		DNSNames: []string{join.ServerName}, URIs: []*url.URL{uri}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}, // CA:TRUE
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (r *rig) token(t *testing.T, node string, life time.Duration) join.Token {
	t.Helper()
	token, _, err := enroll.NewTokens(r.cluster.Core, nil).Create(t.Context(), r.cluster.CA, node, life)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func request(t *testing.T, token join.Token, node string, key *ecdsa.PrivateKey) join.Request {
	t.Helper()
	return join.Request{TokenID: token.ID, Secret: token.Secret[:], Node: node, CSR: csr(t, key)}
}

// tryGuess tries secrets for a token whose id is known, as fast as the relay answers.
func tryGuess(t *testing.T, r *rig, node string) {
	token, a := r.token(t, node, time.Hour), r.nobody("127.0.4.1")
	key := newKey(t)
	busy := 0
	for range 60 {
		if _, err := rand.Read(token.Secret[:]); err != nil {
			t.Fatal(err)
		}
		switch code, _ := post(t, a, join.Path, request(t, token, node, key)); code {
		case join.CodeBusy:
			busy++
		case join.CodeUnknownToken:
		default:
			t.Fatalf("the answer to a guess is %q", code)
		}
	}
	if busy < 10 {
		t.Errorf("only %d of 60 guesses were kept off", busy)
	}
}

func tryUsedToken(t *testing.T, r *rig, node string) {
	token, a := r.token(t, node, time.Hour), r.nobody("")
	if code, _ := post(t, a, join.Path, request(t, token, node, newKey(t))); code != "" {
		t.Fatalf("the first use: %s", code)
	}
	if code, _ := post(t, a, join.Path, request(t, token, node, newKey(t))); code != join.CodeUsed {
		t.Errorf("another key: %q", code)
	}
}

func tryOthersToken(t *testing.T, r *rig, node string) {
	if code, _ := post(t, r.nobody(""), join.Path, request(t, r.token(t, node, time.Hour), victim, newKey(t))); code != join.CodeWrongNode {
		t.Errorf("another's name: %q", code)
	}
}

func tryExpiredToken(t *testing.T, r *rig, node string) {
	token := r.token(t, node, 2*time.Second)
	time.Sleep(2500 * time.Millisecond)
	if code, _ := post(t, r.nobody(""), join.Path, request(t, token, node, newKey(t))); code != join.CodeExpired {
		t.Errorf("an expired token: %q", code)
	}
}

// tryNames asks for another node's name, a CA's rights and a relay's names, with a good token: it gets its own name and nothing else.
func tryNames(t *testing.T, r *rig, node string) {
	code, resp := post(t, r.nobody(""), join.Path, request(t, r.token(t, node, time.Hour), node, newKey(t)))
	if code != "" {
		t.Fatal(code)
	}
	c, err := x509.ParseCertificate(resp.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	name, err := join.NodeOf(c)
	if err != nil || name != node || c.IsCA || len(c.DNSNames)+len(c.IPAddresses) > 0 || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("the certificate is %q of %v for %v %v, CA %v, %v", c.Subject, c.Subject.Organization, c.DNSNames, c.IPAddresses, c.IsCA, c.ExtKeyUsage)
	}
	r.noRelay(t, c, resp)
}

// noRelay checks that agents do not take a gateway's certificate for a relay's.
func (r *rig) noRelay(t *testing.T, c *x509.Certificate, _ *join.Response) {
	t.Helper()
	if _, err := c.Verify(x509.VerifyOptions{Roots: r.cluster.CA.Pool(), DNSName: join.ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a gateway's certificate passes as a relay's")
	}
}

// tryRenewal renews the victim's certificate, which is public, with a proof of the attacker's key.
func tryRenewal(t *testing.T, r *rig, _ string) {
	theirs, err := fleet.Issue(t.Context(), r.cluster.CA, []string{victim})
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.nobody("").TLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	req, err := join.NewRenewal(&state, theirs[0].Certificate.Certificate[0], newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := postOver(t, c, join.RenewPath, req); code != join.CodeBadProof {
		t.Errorf("the answer is %q", code)
	}
}

// tryOtherCA presents a certificate with all the right names, of a CA of its own.
func tryOtherCA(t *testing.T, r *rig, node string) {
	key := newKey(t)
	uri, err := url.Parse(join.URI(node))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: join.CommonName(node), Organization: []string{join.Organisation}}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := r.nobody("127.0.4.3")
	a.Key = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if s, err := a.Link(t.Context()); err == nil {
		s.Close()
		t.Error("the relay takes it")
	}
}

func tryExpired(t *testing.T, r *rig, node string) {
	key := newKey(t)
	cert, err := r.cluster.CA.IssueNode(node, key, time.Now().Add(-2*time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a := r.nobody("127.0.4.4")
	a.Key = &cert
	if s, err := a.Link(t.Context()); err == nil {
		s.Close()
		t.Error("the relay takes it")
	}
}

// tryRevoked goes on after the node was revoked: on the open session, on a new one, and with a renewal.
func tryRevoked(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	a.Tickets = tls.NewLRUClientSessionCache(4)
	s := open(t, a, node)
	if _, err := r.stack.Ctl(t.Context(), "node", "revoke", node, "--force", "--reason", "taken over"); err != nil {
		t.Fatal(err)
	}
	gone(t, s)
	if s, err := a.Link(t.Context()); err == nil {
		s.Close()
		t.Error("a revoked node has a session")
	}
}

func tryNoCertificate(t *testing.T, r *rig, _ string) {
	if s, err := r.nobody("127.0.4.2").Link(t.Context()); err == nil {
		s.Close()
		t.Error("somebody without a certificate has a link")
	}
}
