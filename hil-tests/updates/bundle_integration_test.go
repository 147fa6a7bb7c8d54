//go:build integration

package updates

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/update/raucclient"
)

// workshop has two images, keys, and an image's configuration.
type workshop struct {
	t    *testing.T
	dir  string
	keys rauc.Keys
	conf string
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	w := &workshop{t: t, dir: t.TempDir()}
	var err error
	if w.keys, err = rauc.DevelopmentKeys(filepath.Join(w.dir, "keys"), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.write("root.squashfs", bytes.Repeat([]byte("root file system "), 100_000))
	w.write("boot.ext4", bytes.Repeat([]byte("kernel "), 50_000))
	d, err := board.Library{}.Load(boardName)
	if err != nil {
		t.Fatal(err)
	}
	text, err := rauc.SystemConf(d)
	if err != nil {
		t.Fatal(err)
	}
	w.conf = w.write("system.conf", []byte(strings.Replace(text, rauc.KeyringPath, w.keys.Keyring, 1)))
	return w
}

func (w *workshop) write(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *workshop) bundle(name string, keys rauc.Keys) string {
	w.t.Helper()
	out := filepath.Join(w.dir, name)
	b := rauc.Bundle{Board: boardName, Version: "1.2.3", Root: filepath.Join(w.dir, "root.squashfs"), Boot: filepath.Join(w.dir, "boot.ext4"), Keys: keys, Build: "today"}
	if err := b.Make(w.t.Context(), out); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// info asks rauc about a bundle, as an image's rauc would see it.
func (w *workshop) info(bundle string) (string, error) {
	out, err := exec.CommandContext(w.t.Context(), "rauc", "--conf="+w.conf, "info", bundle).CombinedOutput()
	return string(out), err
}

func TestBundleVerifies(t *testing.T) {
	w := newWorkshop(t)
	path := w.bundle("good.raucb", w.keys)
	said, err := w.info(path)
	if err != nil {
		t.Fatalf("rauc refuses a good bundle: %v\n%s", err, said)
	}
	for _, want := range []string{"'skerry-qemu-armv7'", "'1.2.3'", "verity", "root.img", "boot.img"} {
		if !strings.Contains(said, want) {
			t.Errorf("rauc info does not say %s:\n%s", want, said)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	images, err := os.ReadFile(filepath.Join(w.dir, "root.squashfs"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, images) {
		t.Error("the image is not in the bundle as it is: downloads could not find in it what a gateway already has")
	}
}

// TestAgentReadsWhatRAUCSays: the agent's client with the real rauc.
func TestAgentReadsWhatRAUCSays(t *testing.T) {
	w := newWorkshop(t)
	c := raucclient.Client{Args: []string{"--conf=" + w.conf}}
	compatible, version, err := c.Inspect(t.Context(), w.bundle("good.raucb", w.keys))
	if compatible != "skerry-qemu-armv7" || version != "1.2.3" || err != nil {
		t.Errorf("Inspect gives %q, %q, %v", compatible, version, err)
	}
	foreign, err := rauc.DevelopmentKeys(filepath.Join(w.dir, "foreign"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Inspect(t.Context(), w.bundle("foreign.raucb", foreign)); err == nil || !strings.Contains(err.Error(), "signature verification failed") {
		t.Errorf("a bundle of somebody else gives %v", err)
	}
}

func TestBadBundlesAreRefused(t *testing.T) {
	w := newWorkshop(t)
	good, err := os.ReadFile(w.bundle("good.raucb", w.keys))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name, path, why string) {
		t.Helper()
		if said, err := w.info(path); err == nil || !strings.Contains(said, why) {
			t.Errorf("%s: rauc says %v, want a refusal with %q:\n%s", name, err, why, said)
		}
	}
	altered := bytes.Clone(good)
	altered[len(altered)-200] ^= 1 // in the signature
	refused("an altered signature", w.write("altered.raucb", altered), "ignature")
	refused("cut short", w.write("short.raucb", good[:len(good)/2]), "ignature")
	refused("empty", w.write("empty.raucb", nil), "")

	foreign, err := rauc.DevelopmentKeys(filepath.Join(w.dir, "foreign"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	refused("somebody else's key", w.bundle("foreign.raucb", foreign), "signature verification failed")
}

// TestSignerForSomethingElse: a certificate of the same CA that is not for signing code signs nothing.
func TestSignerForSomethingElse(t *testing.T) {
	w := newWorkshop(t)
	other := w.keys
	other.Cert, other.Key = mailSigner(t, w.dir)
	other.Keyring = filepath.Join(w.dir, "mail-ca.pem")
	b := rauc.Bundle{Board: boardName, Version: "1.2.3", Root: filepath.Join(w.dir, "root.squashfs"), Boot: filepath.Join(w.dir, "boot.ext4"), Keys: other}
	if err := b.Make(t.Context(), filepath.Join(w.dir, "mail.raucb")); err == nil || !strings.Contains(err.Error(), "unsuitable certificate purpose") {
		t.Errorf("signed with a certificate for mails: %v", err)
	}
}
