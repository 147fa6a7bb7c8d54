package kubelet

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestServingCertificateIsReadAnew: a Secret that is renewed needs no restart, and one that is half written does no harm.
func TestServingCertificateIsReadAnew(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	write := func(c *tls.Certificate, at time.Time) {
		files(t, dir, c)
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, second := a.named("first"), a.named("second")
	write(first, time.Unix(1000, 0))
	c, err := newServingCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := func() string {
		c.looked = time.Time{}
		got, err := c.get()
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	if n := now(); n != "first" {
		t.Error(n)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := now(); n != "first" {
		t.Error(n)
	}
	write(second, time.Unix(2000, 0))
	if n := now(); n != "second" {
		t.Error(n)
	}
	if _, err := newServingCertificate(filepath.Join(dir, "none"), filepath.Join(dir, "tls.key"), nil); err == nil {
		t.Error("a missing file was accepted")
	}
}
