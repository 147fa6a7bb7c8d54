package bootscript

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/uboot"
)

const (
	bios   = "/usr/lib/u-boot/qemu_arm/u-boot.bin"
	sector = 512
	mib    = 1 << 20
)

// disk is a disk image with the partitions that the script needs.
type disk struct{ path string }

// The partitions' first bytes and sizes.
type place struct{ at, size int64 }

func layout() map[string]place {
	return map[string]place{
		"env-a": {1 * mib, bootenv.Size}, "env-b": {2 * mib, bootenv.Size}, "provision": {3 * mib, 16 * mib},
		"boot-a": {20 * mib, 8 * mib}, "boot-b": {28 * mib, 8 * mib},
	}
}

func command(ctx context.Context, stdin string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// newDisk makes the disk. Both slots are whole.
func newDisk(ctx context.Context, dir string) (*disk, error) {
	d := &disk{path: filepath.Join(dir, "disk.img")}
	if err := os.WriteFile(d.path, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.path, 40*mib); err != nil {
		return nil, err
	}
	table := "label: gpt\n"
	for _, name := range []string{"env-a", "env-b", "provision", "boot-a", "boot-b"} {
		p := layout()[name]
		table += fmt.Sprintf("start=%d, size=%d, name=%s", p.at/sector, p.size/sector, name)
		if name == "provision" {
			table += `, attrs="LegacyBIOSBootable"`
		}
		table += "\n"
	}
	if err := command(ctx, table, "sfdisk", "-q", d.path); err != nil {
		return nil, err
	}
	text, script := filepath.Join(dir, "boot.cmd"), filepath.Join(dir, "boot.scr")
	if err := os.WriteFile(text, []byte(uboot.Script()), 0o600); err != nil {
		return nil, err
	}
	if err := command(ctx, "", "mkimage", "-A", "arm", "-T", "script", "-d", text, script); err != nil {
		return nil, err
	}
	fat := filepath.Join(dir, "provision.img")
	if err := command(ctx, "", "mkfs.vfat", "-C", fat, "16384"); err != nil {
		return nil, err
	}
	if err := command(ctx, "", "mcopy", "-i", fat, script, "::boot.scr"); err != nil {
		return nil, err
	}
	if err := d.fill("provision", fat); err != nil {
		return nil, err
	}
	for _, s := range []bootenv.Slot{bootenv.A, bootenv.B} {
		if err := d.slot(ctx, dir, s, map[string][]byte{
			"vmlinuz": kernel("kernel of slot " + string(s) + "\n"), "initrd": []byte("nobody unpacks this"), "boot.cmdline": []byte("slotargs=skerry.roothash=" + strings.Repeat("ab", 32) + " panic=10\n"),
		}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// slot makes a slot's boot partition anew with files.
func (d *disk) slot(ctx context.Context, dir string, s bootenv.Slot, files map[string][]byte) error {
	name := "boot-" + strings.ToLower(string(s))
	folder, image := filepath.Join(dir, name), filepath.Join(dir, name+".img")
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	for f, content := range files {
		if err := os.WriteFile(filepath.Join(folder, f), content, 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(image, make([]byte, layout()[name].size), 0o600); err != nil {
		return err
	}
	if err := command(ctx, "", "mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image); err != nil {
		return err
	}
	return d.fill(name, image)
}

func (d *disk) fill(partition, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return d.write(partition, b)
}

func (d *disk) write(partition string, b []byte) error {
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, layout()[partition].at); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// environment reads the two copies.
func (d *disk) environment() (bootenv.Env, bootenv.Condition, error) {
	b, err := os.ReadFile(d.path)
	if err != nil {
		return bootenv.Env{}, bootenv.Condition{}, err
	}
	l := layout()
	a, c := l["env-a"], l["env-b"]
	e, cond := bootenv.New([2]bootenv.Copy{window{b[a.at : a.at+a.size]}, window{b[c.at : c.at+c.size]}}, bootenv.Size).Read()
	return e, cond, nil
}

type window struct{ b []byte }

func (w window) ReadAt(p []byte, off int64) (int, error)  { return copy(p, w.b[off:]), nil }
func (w window) WriteAt(p []byte, off int64) (int, error) { return copy(w.b[off:], p), nil }
func (window) Sync() error                                { return nil }
func (window) Forget() error                              { return nil }

// boot switches the machine on and returns what the console said until it went off or was reset.
func (d *disk) boot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "qemu-system-arm", "-M", "virt,highmem=off", "-cpu", "cortex-a7", "-m", "128", "-display", "none", "-monitor", "none", "-serial", "stdio",
		"-no-reboot", "-nic", "none", "-bios", bios, "-drive", "if=none,format=raw,id=d,file="+d.path, "-device", "virtio-blk-pci,drive=d")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("qemu-system-arm: %w\n%s", err, out.String())
	}
	return out.String(), nil
}

// kernel returns an ARM zImage that prints text on QEMU's PL011 and switches the machine off.
func kernel(text string) []byte {
	const begin = 0x40
	code := []uint32{
		0xe3a00409, // mov   r0, #0x09000000   the PL011
		0xe28f1024, // add   r1, pc, #0x24     the text: behind these twelve instructions
		0xe4d12001, // ldrb  r2, [r1], #1
		0xe3520000, // cmp   r2, #0
		0x0a000001, // beq   off
		0xe5802000, // str   r2, [r0]
		0xeafffffa, // b     ldrb
		0xe3a00484, // off: mov r0, #0x84000000
		0xe3800008, // orr   r0, r0, #8        PSCI SYSTEM_OFF
		0xe1400070, // hvc   #0
		0xeafffffe, // b     .
		0xe1a00000, // nop
	}
	image := make([]byte, begin+4*len(code), 4096)
	binary.LittleEndian.PutUint32(image, 0xea00000e) // b begin
	for i, word := range code {
		binary.LittleEndian.PutUint32(image[begin+4*i:], word)
	}
	image = append(append(image, text...), 0)
	image = image[:4096]
	binary.LittleEndian.PutUint32(image[0x24:], 0x016f2818) // what bootz looks for; arch/arm/boot/compressed/head.S
	binary.LittleEndian.PutUint32(image[0x2c:], uint32(len(image)))
	return image
}
