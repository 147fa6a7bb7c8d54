package image

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skerry/skerry/board"
)

// FirmwarePartition holds what runs before a slot is chosen: the boot script, and on some boards the firmware's own files.
const FirmwarePartition = "firmware"

// agentPath is where skerryd is in the root.
const agentPath = "usr/bin/skerryd"

// suite is Debian's release that images are made of.
const suite = "bookworm"

// Builder makes one image. All fields but Lock, Mirror and Say are needed.
type Builder struct {
	Board   *board.Descriptor
	Out     string             // folder of the results
	Cache   string             // folder of packages and unpacked kernels, shared by all boards
	Agent   string             // skerryd for the board's architecture
	Initrd  string             // board/cmd/skerry-initrd for it
	Script  string             // U-Boot's script, text
	Units   map[string][]byte  // those of the agent (AgentUnits), by name
	Keyring []byte             // certificates that sign updates, PEM
	Key     ed25519.PrivateKey // signs the manifest
	Version string             // of Skerry
	Epoch   time.Time          // SOURCE_DATE_EPOCH
	Lock    string             // lock file; empty: the newest packages
	Mirror  string             // of Debian; empty: this machine's
	Say     io.Writer          // progress
}

// ErrNotProven says that no image of a board can be made, because nobody has booted one.
var ErrNotProven = errors.New("no image can be made of this board")

// Check says what is missing for an image of a board.
func Check(d *board.Descriptor) error {
	switch s := d.Storage; {
	case d.Image == nil:
		return fmt.Errorf("%w: %s (%s) has no section image, because its boot chain (firmware, U-Boot, device tree) has not been proven with our slots: it runs skerryd on its own system (docs/install.md)", ErrNotProven, d.Name, d.Source)
	case s == nil || len(s.Slots) != 2 || s.Data == "" || len(s.Environment) != 2:
		return fmt.Errorf("%w: %s names no two slots, two copies of the boot environment and a data partition in storage", ErrNotProven, d.Name)
	case s.Bootloader != "u-boot" || s.Table != "gpt":
		return fmt.Errorf("%w: %s boots by %s from a table %s; images are made for u-boot and gpt", ErrNotProven, d.Name, s.Bootloader, s.Table)
	case s.Partitions[len(s.Partitions)-1].Name != s.Data:
		return fmt.Errorf("%w: %s has its data partition not at the end, where it can grow", ErrNotProven, d.Name)
	}
	return nil
}

// debArch is Debian's name of a board's architecture.
func debArch(d *board.Descriptor) string {
	if d.Architectures[0] == "arm" {
		return "armhf"
	}
	return d.Architectures[0]
}

// Result names what Build made.
type Result struct {
	Disk, Root, Boot, Lock, Manifest, SBOM string
	RootHash                               string
	Sizes                                  Sizes
}

// Sizes of an image in bytes.
type Sizes struct {
	Root   int64 // squashfs with its hash tree
	Kernel int64
	Initrd int64
}

// Slot is what an update has to write.
func (s Sizes) Slot() int64 { return s.Root + s.Kernel + s.Initrd }

func (b *Builder) say(format string, args ...any) {
	if b.Say != nil {
		fmt.Fprintf(b.Say, "    "+format+"\n", args...)
	}
}

// Build makes everything.
func (b *Builder) Build(ctx context.Context) (Result, error) {
	if err := Check(b.Board); err != nil {
		return Result{}, err
	}
	work := filepath.Join(b.Out, "work")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o755)); err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(work)
	list, debs, err := b.debs(ctx)
	if err != nil {
		return Result{}, err
	}
	tree, k, err := b.root(ctx, list, debs, work)
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Disk: b.out("skerry-" + b.Board.Name + ".img"), Root: b.out("rootfs.img"), Boot: b.out("boot.img"), Lock: b.out("packages.lock"), Manifest: b.out("manifest.json"),
		SBOM: b.out("sbom.spdx.json"),
	}
	b.say("root: %.1f MB of files", float64(tree.Bytes())/1e6)
	if r.RootHash, err = squashfs(ctx, tree, r.Root, b.Epoch); err != nil {
		return r, fmt.Errorf("make the root: %w", err)
	}
	if err := checkVerity(ctx, r.Root, r.RootHash); err != nil {
		return r, fmt.Errorf("veritysetup does not confirm the hash tree: %w", err)
	}
	if err := b.boot(ctx, k, &r, work); err != nil {
		return r, err
	}
	if err := b.disk(ctx, &r, work); err != nil {
		return r, err
	}
	if limit := int64(b.Board.Image.Limit); r.Sizes.Slot() > limit {
		return r, fmt.Errorf("a slot takes %d bytes, and image.limit of board %s is %d: take out what grew, or raise the limit with a reason", r.Sizes.Slot(), b.Board.Name, limit)
	}
	return r, b.papers(list, r)
}

// papers writes what belongs beside an image: the lock file, the list of what is in it, and the signed manifest of all.
func (b *Builder) papers(list []Package, r Result) error {
	lock, err := os.Create(r.Lock)
	if err != nil {
		return err
	}
	if err := errors.Join(WriteLock(lock, list), lock.Close()); err != nil {
		return err
	}
	bom, err := sbom(b.Board.Name, b.Version, b.Epoch, list, b.Agent, b.Initrd)
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.SBOM, bom, 0o644); err != nil {
		return err
	}
	m := Manifest{Board: b.Board.Name, Version: b.Version, Time: b.Epoch, RootHash: r.RootHash}
	return writeManifest(r.Manifest, m, []string{r.Disk, r.Root, r.Boot, r.Lock, r.SBOM}, b.Key)
}

func (b *Builder) out(name string) string { return filepath.Join(b.Out, name) }

// debs returns the packages of the lock file, or the newest ones, and their files.
func (b *Builder) debs(ctx context.Context) ([]Package, []string, error) {
	arch := debArch(b.Board)
	a := &apt{dir: filepath.Join(b.Cache, "apt-"+arch), arch: arch, suite: suite, mirror: b.Mirror}
	var list []Package
	if b.Lock != "" {
		f, err := os.Open(b.Lock)
		if err != nil {
			return nil, nil, err
		}
		defer f.Close()
		if list, err = ReadLock(f); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", b.Lock, err)
		}
	} else {
		if err := a.update(ctx); err != nil {
			return nil, nil, err
		}
		// The newest kernel is a dependency of the package that the board names.
		out, err := run(ctx, "", "apt-cache", append(a.options(), "depends", b.Board.Image.Kernel)...)
		if err != nil {
			return nil, nil, err
		}
		kernel := ""
		for line := range strings.Lines(out) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok && kernel == "" {
				kernel = "linux-image-" + name
			}
		}
		if kernel == "" {
			return nil, nil, fmt.Errorf("package %s names no kernel", b.Board.Image.Kernel)
		}
		if list, err = a.resolve(ctx, append(packages(), kernel), func(name string) bool { return name != kernel && unwanted(name) }); err != nil {
			return nil, nil, err
		}
	}
	b.say("%d packages of Debian %s (%s)", len(list), suite, arch)
	files, err := a.fetch(ctx, filepath.Join(b.Cache, "debs"), list)
	return list, files, err
}

// root makes the tree of the root, and unpacks the kernel.
func (b *Builder) root(ctx context.Context, list []Package, debs []string, work string) (*Tree, *kernel, error) {
	t := NewTree()
	var k *kernel
	for i, p := range list {
		if strings.HasPrefix(p.Name, "linux-image-") {
			var err error
			if k, err = openKernel(ctx, debs[i], filepath.Join(b.Cache, "kernel-"+strings.TrimSuffix(p.File(), ".deb"))); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err := unpack(ctx, t, debs[i], keep); err != nil {
			return nil, nil, err
		}
	}
	if k == nil {
		return nil, nil, errors.New("the lock file names no kernel (linux-image-…)")
	}
	words := append(append(rootModules(), b.Board.Image.Initrd...), b.Board.Image.Modules...)
	modules, err := k.pick(words)
	if err != nil {
		return nil, nil, fmt.Errorf("modules of the root: %w", err)
	}
	if err := k.install(ctx, t, modules, filepath.Join(work, "modules")); err != nil {
		return nil, nil, err
	}
	agent, err := os.ReadFile(b.Agent)
	if err != nil {
		return nil, nil, err
	}
	t.File(agentPath, 0o755, agent)
	if err := b.finish(t); err != nil {
		return nil, nil, err
	}
	if missing := missingLibraries(t); len(missing) > 0 {
		return nil, nil, fmt.Errorf("programs of the root lack libraries: %s", strings.Join(missing[:min(len(missing), 20)], ", "))
	}
	return t, k, nil
}

// boot makes the boot partition's file system, the same for both slots.
func (b *Builder) boot(ctx context.Context, k *kernel, r *Result, work string) error {
	program, err := os.ReadFile(b.Initrd)
	if err != nil {
		return err
	}
	modules, err := k.pick(b.Board.Image.Initrd)
	if err != nil {
		return fmt.Errorf("modules of the initrd: %w", err)
	}
	initrd, err := k.initrd(program, modules)
	if err != nil {
		return err
	}
	vmlinuz, err := os.ReadFile(filepath.Join(k.root, "boot/vmlinuz-"+k.version))
	if err != nil {
		return err
	}
	line := "slotargs="
	if c := b.Board.Console; c != nil {
		line += fmt.Sprintf("console=%s,%d ", c.Device, c.Baud)
	}
	line += "panic=10 loglevel=4 net.ifnames=0 skerry.roothash=" + r.RootHash + "\n"
	size := int64(0)
	for _, p := range b.Board.Storage.Partitions {
		if p.Name == b.Board.Storage.Slots[0].Boot {
			size = int64(p.Size)
		}
	}
	r.Sizes.Kernel, r.Sizes.Initrd = int64(len(vmlinuz)), int64(len(initrd))
	b.say("kernel %s: %.1f MB, initrd: %.1f MB", k.version, float64(len(vmlinuz))/1e6, float64(len(initrd))/1e6)
	if err := ext4(ctx, r.Boot, "boot", size, map[string][]byte{"vmlinuz": vmlinuz, "initrd": initrd, "boot.cmdline": []byte(line)}, b.Epoch, work); err != nil {
		return fmt.Errorf("make the boot partition: %w", err)
	}
	return nil
}

// disk puts everything into the image of a disk.
func (b *Builder) disk(ctx context.Context, r *Result, work string) error {
	s := b.Board.Storage
	content := map[string]string{}
	for _, slot := range s.Slots {
		content[slot.Boot], content[slot.Root] = r.Boot, r.Root
	}
	script, err := b.script(ctx, work)
	if err != nil {
		return err
	}
	for _, p := range s.Partitions {
		inside := map[string][]byte{}
		switch p.Name {
		case FirmwarePartition:
			inside["boot.scr"] = script
		case ProvisionPartition:
			inside["README.TXT"] = []byte(strings.ReplaceAll(provisionReadme, "\n", "\r\n"))
		default:
			continue
		}
		file := filepath.Join(work, p.Name+".vfat")
		if err := vfat(ctx, file, p.Name, int64(p.Size), inside, b.Epoch, work); err != nil {
			return fmt.Errorf("make the partition %s: %w", p.Name, err)
		}
		content[p.Name] = file
	}
	st, err := os.Stat(r.Root)
	if err != nil {
		return err
	}
	r.Sizes.Root = st.Size()
	return writeDisk(r.Disk, layout(s, b.Board.Name), s, content)
}

// ProvisionPartition is where a technician puts the provisioning file.
const ProvisionPartition = "provision"

const provisionReadme = `This partition is for skerry-provision.yaml, which tells this gateway where it belongs.
See docs/flashing.md of Skerry. After the gateway has joined, the token is removed from it;
skerry-result.txt says what became of it.
`

// script makes boot.scr.
func (b *Builder) script(ctx context.Context, work string) ([]byte, error) {
	in, out := filepath.Join(work, "boot.cmd"), filepath.Join(work, "boot.scr")
	if err := os.WriteFile(in, []byte(b.Script), 0o644); err != nil {
		return nil, err
	}
	env := []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.Epoch.Unix())}
	if _, err := runWith(ctx, "", env, nil, "mkimage", "-A", "arm", "-T", "script", "-n", "skerry", "-d", in, out); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}
