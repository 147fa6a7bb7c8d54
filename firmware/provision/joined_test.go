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

// TestDamagedIdentity: a gateway whose configuration loads and whose identity is damaged is not given away. A token for the same node makes it whole; nothing else of the
// file is used.
func TestDamagedIdentity(t *testing.T) {
	const relays = "relays: [\"r.elsewhere.example:7443\"]\nhostname: other\n"
	for name, tc := range map[string]struct {
		node    string
		damage  func(t *testing.T, dir string)
		joins   bool
		result  string
		console string
	}{
		"another node": {"gw-2", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "identity.1"), "junk") }, false, `only a token for that node is taken, and this one is for "gw-2"`, `this gateway is node "gw-1"`},
		"the same node": {"gw-1", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "identity.1"), "junk")
			put(t, filepath.Join(dir, "identity.2"), "")
		}, true, `OK: this gateway has joined as node "gw-1"`, "is used for its token, and nothing else"},
		"whole, and of no use": {"gw-2", func(t *testing.T, dir string) {
			sum := sha256.Sum256([]byte("{}"))
			put(t, filepath.Join(dir, "identity.1"), "skerry-identity-1 "+hex.EncodeToString(sum[:])+"\n{}")
		}, false, "has lost its identity", "it has no certificate"},
		"not readable": {"gw-1", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "identity.1"), "junk")
			put(t, filepath.Join(dir, "identity.2", "x"), "")
		}, false, "no provisioning file is used; restart the gateway", "no provisioning file is used"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStick(t, "token: "+newToken(t, tc.node)+"\n"+relays)
				o, console := options(t, s)
				path := filepath.Join(o.Etc, "skerry/skerryd.yaml")
				text := "node: {name: gw-1}\nrelay: {addresses: [\"r.home.example:7443\"]}\nidentityDir: " + o.Identity + "\n"
				put(t, path, text)
				tc.damage(t, o.Identity)
				joined := 0
				o.Enroll = func(_ context.Context, cfg config.Config, _ string) error {
					joined++
					if cfg.Node.Name != "gw-1" || len(cfg.Relay.Addresses) != 1 || cfg.Relay.Addresses[0] != "r.home.example:7443" {
						t.Errorf("it joins as %q at %v", cfg.Node.Name, cfg.Relay.Addresses)
					}
					return nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := Run(ctx, o); (err == nil) != tc.joins || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if r := s.read(t, ResultName); !strings.Contains(r, tc.result) || !strings.Contains(console.String(), tc.console) || (joined == 1) != tc.joins {
					t.Errorf("joined %d times; the result is %q, the console says %q", joined, r, console)
				}
				if strings.Contains(console.String(), "belongs to no cluster") {
					t.Errorf("the console says %q", console)
				}
				if got, _ := os.ReadFile(path); string(got) != text {
					t.Errorf("the configuration became %q", got)
				}
				if _, err := os.Stat(filepath.Join(o.Etc, "hostname")); err == nil {
					t.Error("the host name was taken from the stick")
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
