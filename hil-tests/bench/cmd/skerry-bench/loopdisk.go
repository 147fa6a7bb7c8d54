package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// loopDisk is a file that is a block device with ext4 on it, whose traffic the kernel counts. It needs root.
type loopDisk struct {
	image, device, mount string
}

// newLoopDisk makes one in dir. block is the file system's block size, which mkfs would choose by the size: 4 KiB from 512 MB on.
func newLoopDisk(ctx context.Context, dir string, size int64, block int) (_ *loopDisk, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "disk-*.img")
	if err != nil {
		return nil, err
	}
	d := &loopDisk{image: f.Name()}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	// Without lazy initialisation, which would write for minutes after the file system was made.
	if out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", strconv.Itoa(block), "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "losetup", "--find", "--show", d.image)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("losetup (root is needed): %w: %s", err, stderr.String())
	}
	d.device = strings.TrimSpace(string(out))
	mount, err := os.MkdirTemp(dir, "disk-")
	if err != nil {
		return nil, err
	}
	if err := syscall.Mount(d.device, mount, "ext4", syscall.MS_NOATIME, ""); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", d.device, err), os.Remove(mount))
	}
	d.mount = mount
	return d, nil
}

// close takes the disk apart, as far as it was made.
func (d *loopDisk) close() {
	if d.mount != "" {
		_ = syscall.Unmount(d.mount, syscall.MNT_DETACH)
		_ = os.Remove(d.mount)
	}
	if d.device != "" {
		_ = exec.Command("losetup", "--detach", d.device).Run()
	}
	_ = os.Remove(d.image)
}

// traffic is what was written to a disk.
type traffic struct{ bytes, writes int64 }

// settled brings everything that is dirty to the disk, and returns what was written so far (Documentation/block/stat.rst in the kernel).
func (d *loopDisk) settled() (t traffic, err error) {
	f, err := os.Open(d.mount)
	if err != nil {
		return t, err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return t, fmt.Errorf("syncfs: %w", err)
	}
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.device), "stat"))
	if err != nil {
		return t, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 7 {
		return t, fmt.Errorf("%s has no statistics: %q", d.device, b)
	}
	if t.writes, err = strconv.ParseInt(fields[4], 10, 64); err != nil {
		return t, err
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64)
	t.bytes = sectors * 512
	return t, err
}
