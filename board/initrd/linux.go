package initrd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewMachine is the real one.
func NewMachine(console io.Writer) *Machine {
	m := &Machine{Root: "/sysroot", Dev: "/dev", Sys: "/sys", Log: console}
	m.Kernel = &linux{m: m}
	return m
}

// Prepare mounts what programs expect and loads the modules of the initrd in the order of their names.
func (m *Machine) Prepare(modules string) error {
	for _, t := range []struct{ kind, at, options string }{
		{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"devtmpfs", "/dev", "mode=755"}, {"tmpfs", "/run", "mode=755,size=20%"},
	} {
		if err := os.MkdirAll(t.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(t.kind, t.at, t.kind, unix.MS_NOSUID, t.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", t.at, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(modules, "*.ko"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		// A driver without its hardware is no reason to stop: whatever is really missing is told by name later.
		if err != nil && !errors.Is(err, unix.EEXIST) {
			m.say("module %s: %v", filepath.Base(path), err)
		}
	}
	return nil
}

// SwitchRoot makes m.Root the root and becomes its init. It returns only with an error. What the initrd held is freed before.
func (m *Machine) SwitchRoot() error {
	for _, name := range []string{"proc", "sys", "run"} {
		if err := unix.Mount("/"+name, filepath.Join(m.Root, name), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", name, err)
		}
	}
	for _, path := range []string{"/modules", "/init"} {
		os.RemoveAll(path)
	}
	if err := unix.Chdir(m.Root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make the root the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return fmt.Errorf("start /sbin/init: %w", unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin"}))
}

// Restart restarts the board after the console has had time for what was said.
func Restart() {
	unix.Sync()
	time.Sleep(2 * time.Second)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

type linux struct{ m *Machine }

func (l *linux) Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil || flags&unix.MS_MOVE == 0 {
		return err
	}
	// What was moved stays where it was for whoever has its name, and so do the names that the kernel shows in /proc/mounts.
	if err := os.RemoveAll(source); err != nil { // an initramfs has a console of its own there
		return err
	}
	return os.Symlink(target, source)
}

func (l *linux) Unmount(target string) error { return unix.Unmount(target, 0) }

func (l *linux) Run(program string, args ...string) (int, string, error) {
	cmd := exec.CommandContext(context.Background(), program, args...) // fsck must not be cut short
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: l.m.Root}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String(), nil
	}
	return 0, out.String(), err
}

func (l *linux) Sectors(device string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.Seek(0, io.SeekEnd)
	return uint64(n) / 512, err
}

func (l *linux) GrowFilesystem(mount string, size uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err != nil {
		return err
	}
	blocks := size / uint64(st.Bsize)
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer f.Close()
	// _IOW('f', 16, __u64) of fs/ext4/ext4.h. A size that it has already is no error.
	return ioctl(f, 0x40086610, unsafe.Pointer(&blocks))
}

// blkpgPartition is struct blkpg_partition, blkpgArg struct blkpg_ioctl_arg (linux/blkpg.h).
type blkpgPartition struct {
	start, length int64
	number        int32
	_             [64]byte
	_             [64]byte
	_             int32
}

type blkpgArg struct {
	op, flags, length int32
	data              unsafe.Pointer
}

func (l *linux) Resize(disk string, n int, first, sectors uint64) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	p := blkpgPartition{start: int64(first) * 512, length: int64(sectors) * 512, number: int32(n)}
	const resize, blkpg = 3, 0x1269 // BLKPG_RESIZE_PARTITION, _IO(0x12, 105)
	arg := blkpgArg{op: resize, length: int32(unsafe.Sizeof(p)), data: unsafe.Pointer(&p)}
	err = ioctl(f, blkpg, unsafe.Pointer(&arg))
	runtime.KeepAlive(&p)
	return err
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// The device-mapper's ioctls (linux/dm-ioctl.h): each takes a struct dm_ioctl of 312 bytes; DM_TABLE_LOAD's is followed by a
// struct dm_target_spec of 40 bytes and the target's parameters.
const (
	dmHeader     = 312
	dmSpec       = 40
	dmReadOnly   = 1
	dmDevCreate  = 0xc138fd03
	dmDevSuspend = 0xc138fd06
	dmTableLoad  = 0xc138fd09
)

func (l *linux) Verity(name string, sectors uint64, table string) (string, error) {
	control, err := os.OpenFile(l.m.dev("mapper/control"), os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("the kernel's device mapper is not there: %w", err)
	}
	defer control.Close()
	created := dmRequest(name, 0, nil)
	if err := ioctl(control, dmDevCreate, unsafe.Pointer(&created[0])); err != nil {
		return "", fmt.Errorf("create: %w", err)
	}
	target := make([]byte, dmSpec, dmSpec+len(table)+8)
	binary.NativeEndian.PutUint64(target[8:], sectors)
	copy(target[24:], "verity")
	target = append(append(target, table...), 0)
	for len(target)%8 != 0 {
		target = append(target, 0)
	}
	load := dmRequest(name, dmReadOnly, target)
	binary.NativeEndian.PutUint32(load[20:], 1) // target_count
	if err := ioctl(control, dmTableLoad, unsafe.Pointer(&load[0])); err != nil {
		return "", fmt.Errorf("load the table: %w", err)
	}
	resume := dmRequest(name, 0, nil)
	if err := ioctl(control, dmDevSuspend, unsafe.Pointer(&resume[0])); err != nil {
		return "", fmt.Errorf("resume: %w", err)
	}
	dev := binary.NativeEndian.Uint64(created[40:])
	return l.m.dev("dm-" + strconv.Itoa(int(unix.Minor(dev)))), nil
}

// dmRequest is a struct dm_ioctl with what follows it.
func dmRequest(name string, flags uint32, payload []byte) []byte {
	b := make([]byte, dmHeader, dmHeader+len(payload))
	binary.NativeEndian.PutUint32(b[0:], 4) // version 4.0.0
	binary.NativeEndian.PutUint32(b[12:], uint32(dmHeader+len(payload)))
	binary.NativeEndian.PutUint32(b[16:], dmHeader)
	binary.NativeEndian.PutUint32(b[28:], flags)
	copy(b[48:], name) // name[128], then uuid[129]
	return append(b, payload...)
}
