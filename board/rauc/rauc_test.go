package rauc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/verity"
)

type world struct {
	t      *testing.T
	paths  [2]string
	b      Backend
	broken error // of Verify
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, paths: [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	for _, p := range w.paths {
		if err := os.WriteFile(p, make([]byte, bootenv.Size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.b = Backend{Open: func() (*bootenv.Disk, error) { return bootenv.Open(w.paths) }, Cmdline: "console=ttyAMA0 skerry.slot=B rauc.slot=B\n", Verify: func(bootenv.Slot) error { return w.broken }}
	return w
}

func (w *world) says(want string, args ...string) {
	w.t.Helper()
	var out bytes.Buffer
	if err := w.b.Run(args, &out); err != nil {
		w.t.Fatalf("%v: %v", args, err)
	}
	if got := out.String(); got != want {
		w.t.Errorf("%v prints %q, want %q", args, got, want)
	}
}

// TestInstallation is what RAUC 1.8 asks during one installation to B.
func TestInstallation(t *testing.T) {
	w := newWorld(t)
	w.says("B\n", "get-current")
	w.says("A\n", "get-primary")
	w.says("good\n", "get-state", "B")
	w.says("", "set-state", "B", "bad")
	w.says("bad\n", "get-state", "B")
	w.says("A\n", "get-primary")
	w.says("", "set-primary", "B")
	w.says("B\n", "get-primary")
	w.says("good\n", "get-state", "B")
	w.says("good\n", "get-state", "A")
	w.says("", "set-state", "B", "bad")
	w.says("", "set-state", "A", "bad")
	w.says("A\n", "get-primary") // RAUC takes no other answer than a slot: the last resort boots A
	w.says("", "set-state", "B", "good")
	w.says("B\n", "get-primary")
}

func TestBackendRefuses(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{
		nil, {"get-primary", "A"}, {"set-primary"}, {"set-state", "A"}, {"set-state", "A", "maybe"}, {"get-state"}, {"reboot"}, {"get-state", "C"}, {"set-primary", "rootfs.0"},
	} {
		var out bytes.Buffer
		if err := w.b.Run(args, &out); err == nil || out.Len() > 0 {
			t.Errorf("%v: error %v, printed %q, want an error alone", args, err, out.String())
		}
	}
	w.b.Cmdline = "root=/dev/sda1"
	if err := w.b.Run([]string{"get-current"}, &bytes.Buffer{}); err == nil {
		t.Error("a slot runs, says the back end of a system that was not booted by the script")
	}
	w.paths[1] += ".gone"
	if err := w.b.Run([]string{"set-primary", "B"}, &bytes.Buffer{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a partition is missing: %v", err)
	}
}

// TestSlotThatIsNotWhole: it does not become the one that boots next.
func TestSlotThatIsNotWhole(t *testing.T) {
	w := newWorld(t)
	w.says("", "set-state", "B", "bad")
	w.broken = errors.New("a block is not what was written")
	if err := w.b.Run([]string{"set-primary", "B"}, &bytes.Buffer{}); !errors.Is(err, w.broken) {
		t.Errorf("set-primary gives %v", err)
	}
	w.says("A\n", "get-primary")
	w.says("bad\n", "get-state", "B")
}

// TestVerifySlot: whatever bit of the root or of its hash tree is wrong, the slot is refused.
func TestVerifySlot(t *testing.T) {
	const blocks = 200
	data := bytes.Repeat([]byte("squashfs"), blocks*verity.BlockSize/8)
	copy(data, "hsqs")
	binary.LittleEndian.PutUint64(data[40:], blocks*verity.BlockSize-100)
	tree, hash, err := verity.Tree(bytes.NewReader(data), verity.Superblock{Blocks: blocks, Salt: []byte("salt")})
	if err != nil {
		t.Fatal(err)
	}
	image := append(bytes.Clone(data), tree...)
	boot := make([]byte, 3<<20)
	copy(boot[1<<20-20:], "slotargs=skerry.roothash="+hex.EncodeToString(hash[:])+" panic=10\n") // across the border of two reads
	dir := t.TempDir()
	cmdline := "console=ttyS0 skerry.slot=A skerry.roothash=" + hex.EncodeToString(hash[:])
	check := func() error { return CheckRoot(t.Context(), filepath.Join(dir, "root"), cmdline) }
	verify := func(root, boot []byte) error {
		t.Helper()
		for name, b := range map[string][]byte{"root": append(bytes.Clone(root), make([]byte, 1<<20)...), "boot": boot} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return VerifySlot(filepath.Join(dir, "root"), filepath.Join(dir, "boot"))
	}
	if err := errors.Join(verify(image, boot), check()); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 41, 5000, len(data) - 1, len(data), len(data) + 70, len(data) + verity.BlockSize, len(image) - verity.BlockSize} {
		bad := bytes.Clone(image)
		bad[at] ^= 0x10
		if err := verify(bad, boot); err == nil {
			t.Errorf("byte %d of %d is wrong, and the slot is whole", at, len(image))
		}
		if err := check(); !errors.Is(err, ErrRotten) {
			t.Errorf("byte %d of %d is wrong, and the slot that runs: %v", at, len(image), err)
		}
	}
	if err := verify(image[:len(data)/2], boot); err == nil {
		t.Error("half a root is whole")
	}
	if err := verify(image, make([]byte, 2<<20)); err == nil {
		t.Error("a boot partition without a root is whole")
	}
	if err := verify(image, bytes.Replace(boot, []byte(hex.EncodeToString(hash[:4])), []byte("01234567"), 1)); err == nil {
		t.Error("the boot partition of another root is accepted")
	}
}

// TestRootThatCannotBeChecked: what is not known is not rot.
func TestRootThatCannotBeChecked(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	hash := "skerry.roothash=" + strings.Repeat("ab", 32)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"no partition": CheckRoot(t.Context(), root, hash), "no hash": CheckRoot(t.Context(), root, "quiet"), "a wrong hash": CheckRoot(t.Context(), root, "skerry.roothash=xy"),
	} {
		if err == nil || errors.Is(err, ErrRotten) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(root, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckRoot(ended, root, hash); !errors.Is(err, context.Canceled) || errors.Is(err, ErrRotten) {
		t.Errorf("the agent ends meanwhile: %v", err)
	}
	if err := CheckRoot(t.Context(), root, hash); !errors.Is(err, ErrRotten) {
		t.Errorf("an empty root: %v", err)
	}
}

func TestSystemConf(t *testing.T) {
	lib := board.Library{}
	for _, name := range []string{"qemu-armv7", "qemu-arm64"} {
		d, err := lib.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := SystemConf(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{
			"compatible=skerry-" + name, "bootloader=custom", "bundle-formats=verity", "bootloader-custom-backend=/usr/lib/skerry/boot-backend",
			"[slot.rootfs.0]\ndevice=/dev/disk/by-partlabel/root-a\ntype=raw\nbootname=A\n", "[slot.boot.1]\ndevice=/dev/disk/by-partlabel/boot-b\ntype=raw\nparent=rootfs.1\n",
		} {
			if !strings.Contains(text, line) {
				t.Errorf("%s lacks %q:\n%s", name, line, text)
			}
		}
	}
	d, err := lib.Load("generic-arm64")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := SystemConf(d); err == nil {
		t.Errorf("a board without slots has a configuration:\n%s", text)
	}
}

func TestDevelopmentKeysAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k, err := DevelopmentKeys(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(k.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DevelopmentKeys(dir, time.Now())
	if err != nil || again != k {
		t.Fatalf("the second time: %+v, %v", again, err)
	}
	if after, err := os.ReadFile(k.Keyring); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the keys were made anew: gateways with the first ones would refuse all bundles (%v)", err)
	}
}

func TestBundleRefuses(t *testing.T) {
	for _, b := range []Bundle{{Board: "x"}, {Version: "1"}, {Board: "x", Version: "1\n[hooks]"}} {
		if err := b.Make(t.Context(), filepath.Join(t.TempDir(), "b")); err == nil {
			t.Errorf("%+v was made", b)
		}
	}
}
