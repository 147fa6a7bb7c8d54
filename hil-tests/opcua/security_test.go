//go:build integration

package opcua

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/opcuapeer"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/opcua"
)

// pair files a certificate and its key.
func pair(t *testing.T, uri string) (cert *opcuapeer.Certificate, certFile, keyFile string) {
	t.Helper()
	cert, err := opcuapeer.NewCertificate(uri, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c, k, err := cert.PEM()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, content := range map[string][]byte{certFile: c, keyFile: k} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, certFile, keyFile
}

// readOne opens a session of its own and reads Int32.
func readOne(t *testing.T, d *opcua.Driver, cfg device.Config) (device.Value, error) {
	t.Helper()
	s := devicetest.Open(t, d, cfg)
	values := make([]device.Value, 1)
	err := s.Read(t.Context(), devicetest.Compile(t, d, point("Int32", device.TypeInt)), values)
	return values[0], err
}

// testMatrix connects with every policy, mode and kind of token.
func testMatrix(t *testing.T, p *opcuapeer.Peer) {
	d := newDriver(t, p)
	user, userCert, userKey := pair(t, "urn:skerry:user")
	if err := p.TrustUser(user.DER); err != nil {
		t.Fatal(err)
	}
	_, appCert, appKey := pair(t, "urn:skerry:application")
	tokens := map[string][]any{
		"anonymous":               nil,
		"user name":               {"userName", opcuapeer.User, "password", opcuapeer.Password},
		"X.509":                   {"userCertificate", userCert, "userPrivateKey", userKey},
		"user name + certificate": {"userName", opcuapeer.User, "password", opcuapeer.Password, "certificate", appCert, "privateKey", appKey},
	}
	for _, policy := range []string{"None", "Basic256Sha256", "Aes128-Sha256-RsaOaep", "Aes256-Sha256-RsaPss"} {
		for _, mode := range []string{"None", "Sign", "SignAndEncrypt"} {
			if (policy == "None") != (mode == "None") {
				continue
			}
			for token, kv := range tokens {
				t.Run(policy+" "+mode+" "+token, func(t *testing.T) {
					v, err := readOne(t, d, config(p.URL(), append([]any{"securityPolicy", policy, "securityMode", mode}, kv...)...))
					if err != nil || v.Quality != device.Good || v.Text() != "-320000" {
						t.Errorf("%s %q (%v)", v.Quality, v.Text(), err)
					}
				})
			}
		}
	}
	t.Run("auto", func(t *testing.T) {
		if v, err := readOne(t, d, config(p.URL(), "securityMode", "SignAndEncrypt")); err != nil || v.Quality != device.Good {
			t.Errorf("%+v %v", v, err)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		_, err := readOne(t, d, config(p.URL(), "securityPolicy", "Basic256Sha256", "userName", opcuapeer.User, "password", "wrong"))
		if err == nil || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%v", err)
		}
	})
	t.Run("unknown user certificate", func(t *testing.T) {
		_, cert, key := pair(t, "urn:skerry:stranger")
		if _, err := readOne(t, d, config(p.URL(), "securityPolicy", "Basic256Sha256", "userCertificate", cert, "userPrivateKey", key)); err == nil {
			t.Error("a stranger is let in")
		}
	})
}

// testTrust: rejected, then trusted by its fingerprint, then it works in the same session.
func testTrust(t *testing.T, p *opcuapeer.Peer) {
	d := opcua.New(opcua.Options{StateDir: t.TempDir()})
	s := devicetest.Open(t, d, config(p.URL(), "securityPolicy", "Basic256Sha256"))
	points := devicetest.Compile(t, d, point("Int32", device.TypeInt))
	err := s.Read(t.Context(), points, make([]device.Value, 1))
	sum := sha256.Sum256(p.Certificate().DER)
	fingerprint := hex.EncodeToString(sum[:])
	if err == nil || !strings.Contains(err.Error(), "skerryctl device trust accept "+fingerprint[:16]) {
		t.Fatalf("an unknown server: %v", err)
	}
	list, err := d.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	states := make(map[string]string)
	for _, c := range list {
		states[c.Fingerprint] = c.State
	}
	if states[fingerprint] != "rejected" {
		t.Fatalf("%+v", list)
	}
	if err := d.Trust(fingerprint); err != nil {
		t.Fatal(err)
	}
	values := make([]device.Value, 1)
	eventually(t, "the trusted server is read", 20*time.Second, func() bool {
		return s.Read(t.Context(), points, values) == nil && values[0].Quality == device.Good
	})
}
