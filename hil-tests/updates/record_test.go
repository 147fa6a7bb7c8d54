//go:build hil

package updates

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/target"
)

// folders of a campaign of power cuts. `make hil-powercut` makes the images.
type folders struct {
	images string // version 1.0, as it is flashed
	next   string // versions 1.1 and 1.2, in folders of these names
	record string // what record makes
}

// The recording: the disk before, all that was written to it afterwards, and a mark that both are complete.
func (f folders) disk() string     { return filepath.Join(f.record, "disk.img") }
func (f folders) log() string      { return filepath.Join(f.record, "writes.log") }
func (f folders) complete() string { return filepath.Join(f.record, "complete") }

func (f folders) bundle(version string) string {
	return filepath.Join(f.next, version, boardName, "skerry-"+boardName+".raucb")
}

func campaignFolders(t *testing.T) folders {
	t.Helper()
	module, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	build := filepath.Join(module, "build")
	return folders{filepath.Join(build, "images", boardName), filepath.Join(build, "hil", "powercut"), filepath.Join(build, "hil", "powercut", "record")}
}

// record has a whole gateway update itself from slot A to B and back, by the agent, RAUC and the boot script, with QEMU noting all that reaches its disk.
// Slot B holds noise before: each block of it that is not written counts.
func record(t *testing.T, f folders) {
	if err := errors.Join(os.RemoveAll(f.record), os.MkdirAll(f.record, 0o755)); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir()}
	rig, err := target.QEMU(boardName)
	if err != nil {
		t.Fatal(err)
	}
	rig.QEMU.MemoryMiB, rig.QEMU.DiskMiB, rig.QEMU.WriteLog = 256, 1024, f.log()
	m.open(rig)
	if err := m.target.Flash(t.Context(), filepath.Join(f.images, "skerry-"+boardName+".img")); err != nil {
		t.Fatal(err)
	}
	disk := m.disk()
	if err := noise(disk, bootenv.B); err != nil {
		t.Fatal(err)
	}
	if _, err := process.Output(t.Context(), process.Spec{Path: "cp", Args: []string{"--sparse=always", disk, f.disk()}}); err != nil {
		t.Fatal(err)
	}
	m.begin()
	m.awaits("1.0", "A", "")
	m.install(f.bundle("1.1"))
	m.awaits("1.1", "B", "runs and is confirmed")
	m.install(f.bundle("1.2"))
	m.awaits("1.2", "A", "runs and is confirmed")
	m.run("sync")
	if err := m.target.Off(t.Context()); err != nil { // QEMU writes how long its log is
		t.Fatal(err)
	}
	if err := os.WriteFile(f.complete(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// noise fills a slot's partitions.
func noise(disk string, slot bootenv.Slot) error {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := Layout(f)
	if err != nil {
		return err
	}
	rng := rand.NewChaCha8([32]byte{7})
	block := make([]byte, 1<<20)
	for _, p := range []Area{l.Root[slot], l.Boot[slot]} {
		for at := p.Start; at < p.End; at += int64(len(block)) {
			_, _ = rng.Read(block) // never fails
			if _, err := f.WriteAt(block[:min(int64(len(block)), p.End-at)], at); err != nil {
				return err
			}
		}
	}
	return f.Close()
}
