package rauc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The names of a bundle's images. RAUC writes .img to a raw slot as it is.
const (
	rootFile = "root.img"
	bootFile = "boot.img"
)

// Bundle is an update to be made.
type Bundle struct {
	Board   string // its name
	Version string
	Root    string // path of the root partition's image: squashfs, and the hash tree behind it
	Boot    string // path of the boot partition's image
	Keys    Keys
	Build   string // when the images were made, for people
}

// Keys are the files that sign a bundle. Cert holds the signer's certificate, Chain those between it and the keyring (may be empty), Keyring
// what gateways trust.
type Keys struct{ Cert, Key, Chain, Keyring string }

// Make writes the signed bundle to out, anew. It needs Debian's rauc and squashfs-tools.
func (b Bundle) Make(ctx context.Context, out string) error {
	for _, text := range []string{b.Board, b.Version, b.Build} {
		if strings.ContainsAny(text, "\n\r") {
			return fmt.Errorf("%q: a line break cannot be in a manifest", text)
		}
	}
	if b.Board == "" || b.Version == "" {
		return errors.New("a bundle needs the board's name and a version")
	}
	temp, err := os.MkdirTemp(filepath.Dir(out), ".bundle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) //nolint:errcheck // a folder of ours that may be left
	dir, conf := filepath.Join(temp, "content"), filepath.Join(temp, "system.conf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	// rauc verifies what it has signed, and takes from here for what a certificate has to be.
	if err := os.WriteFile(conf, []byte("[system]\ncompatible="+Compatible(b.Board)+"\nbootloader=noop\n[keyring]\ncheck-purpose=codesign\npath="+b.Keys.Keyring+"\n"), 0o600); err != nil {
		return err
	}
	for name, from := range map[string]string{rootFile: b.Root, bootFile: b.Boot} {
		at, err := filepath.Abs(from)
		if err != nil {
			return err
		}
		if err := link(at, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("the bundle's %s: %w", name, err)
		}
	}
	text := manifest(b.Board, b.Version, "Skerry for "+b.Board, b.Build)
	if err := os.WriteFile(filepath.Join(dir, "manifest.raucm"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Stored, not compressed: the images are compressed, and stay findable in the bundle. One processor: the same bytes each time.
	args := []string{"--conf=" + conf, "--cert=" + b.Keys.Cert, "--key=" + b.Keys.Key, "--keyring=" + b.Keys.Keyring, "--mksquashfs-args=-noI -noD -noF -noX -no-fragments -processors 1 -all-root -all-time 0 -mkfs-time 0"}
	if b.Keys.Chain != "" {
		args = append(args, "--intermediate="+b.Keys.Chain)
	}
	cmd := exec.CommandContext(ctx, "rauc", append(args, "bundle", dir, out)...) //nolint:gosec // paths of whoever makes the bundle
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rauc bundle: %w\n%s", err, said)
	}
	return nil
}

// link gives a file a second name, or copies it where that cannot be: mksquashfs would put a symbolic link into the bundle.
func link(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(filepath.Clean(to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}
