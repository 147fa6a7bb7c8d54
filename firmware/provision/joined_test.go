package provision

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/wire/join"
)

// joinAs leaves the identity of a gateway that has joined with the token of this ID.
func joinAs(t *testing.T, dir, node, tokenID string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name, err := url.Parse(join.URI(node))
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Unix(4e9, 0), URIs: []*url.URL{name},
		Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{join.Organisation}},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"serial": 1, "node": node, "tokenID": tokenID, "key": secret, "chain": [][]byte{der}, "roots": [][]byte{der}})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	for _, name := range []string{"identity.1", "identity.2"} {
		put(t, filepath.Join(dir, name), "skerry-identity-1 "+hex.EncodeToString(sum[:])+"\n"+string(body))
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNoTakeOver: a gateway that has joined, or may have, is not given to another cluster by a stick because its configuration does not load.
func TestNoTakeOver(t *testing.T) {
	for name, tc := range map[string]struct {
		config   string
		identity func(dir string)
		want     string
	}{
		"a typo":              {"nod: {}\n", func(dir string) { joinAs(t, dir, "gw-1", "abc123") }, `joined as node "gw-1"`},
		"no configuration":    {"", func(dir string) { joinAs(t, dir, "gw-1", "abc123") }, `joined as node "gw-1"`},
		"a damaged identity":  {"nod: {}\n", func(dir string) { put(t, filepath.Join(dir, "identity.1"), "junk") }, "nor whether it has joined"},
		"an unreadable place": {"nod: {}\n", func(dir string) { put(t, filepath.Join(dir, "identity.1", "x"), "") }, "nor whether it has joined"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStick(t, "token: "+newToken(t, "gw-1")+"\nrelays: [\"r:7443\"]\n")
				before := s.read(t, FileName)
				o, console := options(t, s)
				o.Enroll = func(context.Context, config.Config, string) error { t.Error("it joined"); return nil }
				path := filepath.Join(o.Etc, "skerry/skerryd.yaml")
				if tc.config != "" {
					put(t, path, tc.config)
				}
				tc.identity(o.Identity)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := Run(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if r := s.read(t, ResultName); !strings.Contains(r, "FAILED: this gateway") || !strings.Contains(r, tc.want) || strings.Contains(r, "Correct the file") || !strings.Contains(console.String(), tc.want) {
					t.Errorf("the result is %q, the console says %q", r, console)
				}
				if text, _ := os.ReadFile(path); string(text) != tc.config || s.read(t, FileName) != before {
					t.Errorf("the configuration became %q, the file %q", text, s.read(t, FileName))
				}
			})
		})
	}
}

// TestBrokenConfiguration: before a gateway has joined, the next file replaces a configuration that does not load.
func TestBrokenConfiguration(t *testing.T) {
	o, _ := options(t, newStick(t, "token: "+newToken(t, "gw-1")+"\nrelays: [\"r:7443\"]\n"))
	put(t, filepath.Join(o.Etc, "skerry/skerryd.yaml"), "nod: {}\n")
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(filepath.Join(o.Etc, "skerry/skerryd.yaml")); err != nil {
		t.Error(err)
	}
}

// lookedAt is a stick that must not be written to.
type lookedAt struct {
	stick
	t *testing.T
}

func (l lookedAt) Use(func(dir string) error) error {
	l.t.Error("the stick was made writable")
	return os.ErrPermission
}

// TestLeftOver: a gateway that has joined erases the token that it joined with, and touches no other.
func TestLeftOver(t *testing.T) {
	for id, erased := range map[string]bool{"abc123": true, "earlier": false, "": false} {
		s := newStick(t, "token: "+newToken(t, "gw-1")+"\nrelays: [\"r:7443\"]\n")
		var m Medium = s
		if !erased {
			m = lookedAt{s, t}
		}
		o, _ := options(t, m)
		put(t, filepath.Join(o.Etc, "skerry/skerryd.yaml"), "node: {name: gw-1}\nrelay: {addresses: [\"r:7443\"]}\nidentityDir: "+o.Identity+"\n")
		joinAs(t, o.Identity, "gw-1", id)
		if err := Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		_, err := Parse([]byte(s.read(t, FileName)))
		_, none := os.Stat(filepath.Join(s.dir, ResultName))
		if errors.Is(err, ErrUsed) != erased || (none == nil) != erased {
			t.Errorf("token %q: %v, result %v", id, err, none)
		}
	}
}
