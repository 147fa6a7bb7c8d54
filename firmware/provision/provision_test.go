package provision

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/wire/join"
)

func newToken(t testing.TB, node string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(4e9, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return join.Token{ID: "abc123", Node: node, CA: ca}.String()
}

// stick is a medium in a folder.
type stick struct{ dir string }

func (s stick) Name() string                         { return "the stick" }
func (s stick) Use(do func(dir string) error) error  { return do(s.dir) }
func (s stick) Look(do func(dir string) error) error { return do(s.dir) }

func (s stick) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newStick(t *testing.T, text string) stick {
	t.Helper()
	s := stick{t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, FileName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func options(t *testing.T, media ...Medium) (Options, *bytes.Buffer) {
	console := &bytes.Buffer{}
	return Options{Etc: t.TempDir(), Identity: t.TempDir(), Media: func() []Medium { return media }, Console: console, Enroll: func(context.Context, config.Config, string) error { return nil }}, console
}

// TestProvisioned: configuration, network and host name are written before the gateway joins, the token is erased after.
func TestProvisioned(t *testing.T) {
	token := newToken(t, "gw-1.plant")
	s := newStick(t, "# ours\r\ntoken: "+token+" # from the office\r\nrelays: [\"r.example.org:7443\"]\r\ntimeServers: [10.0.0.1]\r\n"+
		"network: [{interface: eth0, addresses: [10.0.0.5/24], gateway: 10.0.0.1, dns: [10.0.0.1]}]\r\nconfig: {node: {labels: {site: north}}, pods: {enabled: false}}\r\n")
	before := s.read(t, FileName)
	o, console := options(t, s)
	o.Enroll = func(_ context.Context, cfg config.Config, got string) error {
		if got != token || cfg.Node.Name != "gw-1.plant" || cfg.Relay.Addresses[0] != "r.example.org:7443" || cfg.Pods.Enabled || cfg.Node.Labels["site"] != "north" {
			t.Errorf("joins with %+v", cfg)
		}
		if loaded, err := config.Load(filepath.Join(o.Etc, "skerry/skerryd.yaml")); err != nil || loaded.Node.Name != cfg.Node.Name {
			t.Errorf("skerryd.yaml: %v", err)
		}
		if s.read(t, FileName) != before {
			t.Error("the file changed before the gateway joined")
		}
		return nil
	}
	var settled string
	o.Settle = func(_ context.Context, hostname string) error { settled = hostname; return nil }
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	after := s.read(t, FileName)
	if len(after) != len(before) || strings.Contains(after, token[5:len(token)-5]) || !strings.Contains(after, "# from the office") {
		t.Errorf("the file says\n%s", after)
	}
	if _, err := Parse([]byte(after)); !errors.Is(err, ErrUsed) {
		t.Errorf("the erased file: %v", err)
	}
	if r := s.read(t, ResultName); !strings.Contains(r, "OK: this gateway has joined as node \"gw-1.plant\"") || !strings.HasSuffix(r, "\r\n") {
		t.Errorf("the result is %q", r)
	}
	etc := stick{o.Etc}
	if settled != "gw-1" || etc.read(t, "hostname") != "gw-1\n" || !strings.Contains(etc.read(t, "systemd/network/50-eth0.network"), "Address=10.0.0.5/24\nGateway=10.0.0.1\nDNS=10.0.0.1\n") ||
		!strings.Contains(etc.read(t, "systemd/timesyncd.conf.d/provisioned.conf"), "NTP=10.0.0.1") {
		t.Errorf("host name %q, files in %s", settled, o.Etc)
	}
	if !strings.Contains(console.String(), `joined as node "gw-1.plant"`) {
		t.Errorf("the console says %q", console)
	}
}

// TestWrongThenRight: a file that is wrong is told once, and the next one is taken.
func TestWrongThenRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStick(t, "token: "+newToken(t, "gw-1")+"\nrelays: []\n")
		o, console := options(t, s)
		ended := make(chan error)
		go func() { ended <- Run(t.Context(), o) }()
		time.Sleep(time.Minute)
		if n := strings.Count(console.String(), "FAILED"); n != 1 || !strings.Contains(s.read(t, ResultName), "FAILED: relays: ") {
			t.Errorf("told %d times:\n%s", n, console)
		}
		if err := os.WriteFile(filepath.Join(s.dir, FileName), []byte("token: '"+newToken(t, "gw-1")+"'\nrelays: [\"r:7443\"]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if !strings.Contains(s.read(t, FileName), "'###") {
			t.Errorf("the token is still there: %s", s.read(t, FileName))
		}
	})
}

// TestRelayAway: while no relay answers it is tried again and again, and a refusal is told.
func TestRelayAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStick(t, "token: "+newToken(t, "gw-1")+"\nrelays: [\"r:7443\"]\n")
		o, console := options(t, s)
		tries := 0
		o.Enroll = func(ctx context.Context, _ config.Config, _ string) error {
			if tries++; tries == 3 {
				return nil
			}
			<-ctx.Done()
			return errors.New("gave up: relay r:7443 cannot be reached")
		}
		if err := Run(t.Context(), o); err != nil || tries != 3 {
			t.Errorf("%v after %d tries", err, tries)
		}
		if !strings.Contains(console.String(), "FAILED") || !strings.Contains(console.String(), "cannot be reached") {
			t.Errorf("%s", console)
		}
	})
}

// TestNothingToDo: without a file the console says once what is missing, and the end of the context ends it.
func TestNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, console := options(t, stick{t.TempDir()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := Run(ctx, o); !errors.Is(err, context.DeadlineExceeded) || strings.Count(console.String(), "\n") != 1 || !strings.Contains(console.String(), FileName) {
			t.Errorf("%v, %q", err, console)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	token := newToken(t, "gw-1")
	good := "token: " + token + "\nrelays: [\"r:7443\"]\n"
	for text, want := range map[string]string{
		"": "empty", "tokn: x": "key that does not exist", "relays: []": "not a Skerry join token", strings.Repeat("x", maxFile+1): "larger than",
		"token: " + token[:40] + "\n": "incomplete", good + "node: gw-2": `the token is for node "gw-1"`, good + "hostname: Ä": "hostname:", good + "timeServers: [\"a b\"]": "timeServers[0]",
		good + "network: [{interface: eth0}]":                                           "network[0].addresses",
		good + "network: [{interface: \"../x\", addresses: [10.0.0.1/8]}]":              "network[0].interface",
		good + "network: [{interface: e, addresses: [10.0.0.1]}]":                       "prefix length",
		good + "network: [{interface: e, addresses: [10.0.0.1/8], gateway: \"a\\nb\"}]": "gateway",
		good + "config: {node: 1}":                                                      "config.node",
		good + "config: {podz: {}}":                                                     "podz",
		"token: " + token + "\nrelays: [\"no port\"]\n":                                 "relay.addresses",
		"token: \"" + strings.Repeat("#", len(token)) + `"`:                             ErrUsed.Error(),
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: %v; want %q", text, err, want)
		}
	}
	if f, err := Parse([]byte("\xef\xbb\xbf" + good)); err != nil || f.Hostname != "gw-1" {
		t.Errorf("a byte order mark: %+v, %v", f, err)
	}
}

// TestErase: the file stays a YAML file whose token is used, however it was written.
func TestErase(t *testing.T) {
	token := newToken(t, "gw-1")
	for _, form := range []string{"token: %s\n", "token: \"%s\"\n", "token: '%s'\n", "{token: %s}", "token:   %s # x\n", "token: >-\n  %s\n"} {
		text := []byte(fmt.Sprintf(form, token))
		erased, ok := erase(text, token)
		if !ok || len(erased) != len(text) {
			t.Errorf("%s: %q", form, erased)
			continue
		}
		if _, err := Parse(erased); !errors.Is(err, ErrUsed) && !strings.Contains(form, ">-") {
			t.Errorf("%s: %q: %v", form, erased, err)
		}
	}
	if _, ok := erase([]byte("token: x"), token); ok {
		t.Error("something else was erased")
	}
	twice := []byte("# was " + token + "\ntoken: " + token + "\n# " + token)
	if erased, ok := erase(twice, token); !ok || len(erased) != len(twice) || bytes.Contains(erased, []byte(token[5:len(token)-5])) {
		t.Errorf("a token that stands there more than once became %q", erased)
	} else if _, err := Parse(erased); !errors.Is(err, ErrUsed) {
		t.Errorf("a token that stood there more than once: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("token: x\nrelays: [a]\nnetwork: [{interface: e, addresses: [10.0.0.1/8]}]\nconfig: {a: {b: c}}"))
	token := newToken(f, "gw-1")
	f.Add([]byte("token: " + token + "\nrelays: [\"r:7443\"]\nconfig: {node: {labels: {a: b}}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		for name, body := range p.networkFiles() {
			if strings.Contains(name, "..") || strings.Contains(body, "\nExec") {
				t.Errorf("%q: %q", name, body)
			}
		}
	})
}
