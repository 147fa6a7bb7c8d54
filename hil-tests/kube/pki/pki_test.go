package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const serviceIP = "10.96.0.1"

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ensure(t *testing.T, path string, now time.Time) Dir {
	t.Helper()
	d, err := Ensure(path, serviceIP, now)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryLeafVerifiesAgainstItsOwnAuthorityOnly(t *testing.T) {
	d := ensure(t, filepath.Join(t.TempDir(), "pki"), epoch)
	for _, l := range leaves(serviceIP) {
		cert, err := readCert(d.Cert(l.name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tls.LoadX509KeyPair(d.Cert(l.name), d.Key(l.name)); err != nil {
			t.Errorf("%s: key and certificate do not belong together: %v", l.name, err)
		}
		for _, ca := range []string{CA, EtcdCA, FrontProxyCA} {
			root, err := readCert(d.Cert(ca))
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pool.AddCert(root)
			_, err = cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: epoch, KeyUsages: l.usages})
			if got, want := err == nil, ca == l.ca; got != want {
				t.Errorf("%s verifies against %s: %v, want %v (%v)", l.name, ca, got, want, err)
			}
		}
		for _, h := range l.hosts {
			if err := cert.VerifyHostname(h); err != nil {
				t.Errorf("%s: %v", l.name, err)
			}
		}
	}
}

func TestKeysArePrivate(t *testing.T) {
	d := ensure(t, filepath.Join(t.TempDir(), "pki"), epoch)
	for _, p := range []string{d.Key(CA), d.Key(Admin), d.ServiceAccountKey()} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
	}
}

func TestEnsureKeepsWhatIsGoodAndReplacesWhatIsNot(t *testing.T) {
	read := func(t *testing.T, d Dir) []byte {
		t.Helper()
		data, err := os.ReadFile(d.Cert(CA))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, d Dir)
		later  time.Duration
		kept   bool
	}{
		{name: "a restart", change: func(*testing.T, Dir) {}, later: time.Hour, kept: true},
		{name: "a day before expiry", change: func(*testing.T, Dir) {}, later: validity - minLeft/2},
		{name: "a leaf lost", change: func(t *testing.T, d Dir) {
			if err := os.Remove(d.Cert(Scheduler)); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the service account key lost", change: func(t *testing.T, d Dir) {
			if err := os.Remove(d.ServiceAccountKey()); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "an authority truncated", change: func(t *testing.T, d Dir) {
			if err := os.Truncate(d.Cert(EtcdCA), 40); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a half-written folder beside it", change: func(t *testing.T, d Dir) {
			if err := os.MkdirAll(string(d)+".new/x", 0o700); err != nil {
				t.Fatal(err)
			}
		}, kept: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pki")
			before := read(t, ensure(t, path, epoch))
			tc.change(t, Dir(path))
			after := read(t, ensure(t, path, epoch.Add(tc.later)))
			if kept := bytes.Equal(before, after); kept != tc.kept {
				t.Errorf("kept the authority: %v, want %v", kept, tc.kept)
			}
		})
	}
}
