package image

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os/exec"
	"path"
	"strings"

	"github.com/skerry/skerry/board/rauc"
)

// unpack adds a package to a root without running anything of it.
func unpack(ctx context.Context, t *Tree, deb string, keep func(string) bool) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = t.AddTar(out, keep)
	if err != nil {
		_ = cmd.Process.Kill() // it is told below what was wrong
	}
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("%w: %s", e, strings.TrimSpace(complaint.String()))
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", path.Base(deb), err)
	}
	return nil
}

// finish does what maintainer scripts would have done, and adds what is ours.
func (b *Builder) finish(t *Tree) error {
	if err := addFiles(t, b.Board.Image.Debug); err != nil {
		return err
	}
	for _, d := range []string{"dev", "proc", "sys", "run", "var", "boot/provision", "mnt", "srv", "home", "etc/skerry", "etc/systemd/system", "etc/containerd/certs.d"} {
		t.Dir(d, 0o755)
	}
	t.Dir("tmp", 0o1777)
	t.Dir("root", 0o700)
	for _, name := range AgentUnits() {
		t.File("usr/lib/systemd/system/"+name, 0o644, b.Units[name])
	}
	a, err := readAccounts(t)
	if err != nil {
		return err
	}
	a.write(t)
	certificates(t)
	for unit, by := range enabled() {
		at := ""
		for _, dir := range []string{"usr/lib/systemd/system/"} {
			if t.Has(dir + unit) {
				at = "/" + dir + unit
			}
		}
		if at == "" {
			return fmt.Errorf("unit %s, which is to be enabled, is not in the root", unit)
		}
		t.Link("etc/systemd/system/"+by+".wants/"+unit, at)
	}
	t.Link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
	for link, to := range map[string]string{
		"etc/resolv.conf": "../run/systemd/resolve/resolv.conf", "etc/mtab": "../proc/self/mounts", "usr/bin/skerryctl": "skerryd",
		"usr/bin/sh": "dash",
	} {
		t.Link(link, to)
	}
	t.Remove("usr/lib/systemd/system/sysinit.target.wants/systemd-sysusers.service") // done here, and /etc is not for it to write
	// update-alternatives: the nftables variant, as Debian's default.
	for _, ip := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			t.Link("usr/sbin/"+ip+suffix, "xtables-nft-multi")
		}
	}
	t.File("etc/hostname", 0o644, []byte("skerry\n"))
	t.File("etc/machine-id", 0o444, nil) // the initrd lays the machine's own over it
	t.File("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost\n"))
	t.File("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"))
	t.File("etc/fstab", 0o644, []byte("# The initrd mounts everything.\n"))
	release, _ := t.Read("usr/lib/os-release")
	t.File("usr/lib/os-release", 0o644, append(bytes.Clone(release), fmt.Sprintf("VARIANT=\"Skerry\"\nVARIANT_ID=skerry\nIMAGE_ID=skerry-%s\nIMAGE_VERSION=%q\n", b.Board.Name, b.Version)...))
	if err := b.updates(t); err != nil {
		return err
	}
	return b.watchdog(t)
}

// updates puts in what RAUC and the agent need to update the system.
func (b *Builder) updates(t *Tree) error {
	conf, err := rauc.SystemConf(b.Board)
	if err != nil {
		return err
	}
	t.File(rauc.ConfPath, 0o644, []byte(conf))
	t.File(rauc.KeyringPath, 0o644, b.Keyring)
	t.Link(rauc.BackendPath, "/usr/bin/skerryd")
	about, err := json.Marshal(map[string]string{"board": b.Board.Name, "version": b.Version})
	if err != nil {
		return err
	}
	t.File("usr/lib/skerry/image.json", 0o644, append(about, '\n'))
	return nil
}

// watchdog lets systemd feed the hardware watchdog.
func (b *Builder) watchdog(t *Tree) error {
	text := "[Manager]\nDefaultTimeoutStopSec=45s\n"
	if w := b.Board.Watchdog; w != nil {
		text += fmt.Sprintf("RuntimeWatchdogSec=%d\nRebootWatchdogSec=5min\nWatchdogDevice=%s\n", int(w.Timeout.Seconds()), w.Device)
	}
	t.File("usr/lib/systemd/system.conf.d/skerry.conf", 0o644, []byte(text))
	return nil
}

// certificates does update-ca-certificates: all of Mozilla's in one file.
func certificates(t *Tree) {
	var all bytes.Buffer
	for _, p := range t.Paths() {
		if strings.HasPrefix(p, "usr/share/ca-certificates/") && strings.HasSuffix(p, ".crt") {
			b, _ := t.Read(p)
			all.Write(bytes.TrimSpace(b))
			all.WriteByte('\n')
		}
	}
	t.Remove("usr/share/ca-certificates")
	t.File("etc/ssl/certs/ca-certificates.crt", 0o644, all.Bytes())
}

// missingLibraries lists what programs of the root want and do not have, as "PROGRAM: LIBRARY".
func missingLibraries(t *Tree) []string {
	have := map[string]bool{}
	for _, p := range t.Paths() {
		have[path.Base(p)] = true
	}
	var out []string
	for _, p := range t.Paths() {
		b, ok := t.Read(p)
		if !ok || !bytes.HasPrefix(b, []byte("\x7fELF")) || strings.HasSuffix(p, ".ko") {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			out = append(out, p+": "+err.Error())
			continue
		}
		libs, _ := f.ImportedLibraries() // static programs have none
		for _, l := range libs {
			if !have[l] {
				out = append(out, p+": "+l)
			}
		}
	}
	return out
}
