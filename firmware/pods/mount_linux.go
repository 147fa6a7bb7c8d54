package pods

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// kernelMounter mounts with the kernel's calls. It needs root.
type kernelMounter struct{}

// Tmpfs mounts a tmpfs on dir, unless there is one.
func (kernelMounter) Tmpfs(dir string, sizeBytes int64) (bool, error) {
	if there, err := isMountPoint(dir); err != nil || there {
		return false, err
	}
	options := "mode=0777"
	if sizeBytes > 0 {
		options += ",size=" + strconv.FormatInt(sizeBytes, 10)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return false, fmt.Errorf("mount tmpfs on %s: %w (the agent must run as root)", dir, err)
	}
	return true, nil
}

// Unmount takes away what is mounted on dir.
func (kernelMounter) Unmount(dir string) error {
	mounted, err := isMountPoint(dir)
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// isMountPoint compares the devices of a folder and of its parent.
func isMountPoint(dir string) (bool, error) {
	var here, above unix.Stat_t
	err := unix.Lstat(dir, &here)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = unix.Lstat(filepath.Dir(dir), &above)
	}
	if err != nil {
		return false, fmt.Errorf("look for a mount on %s: %w", dir, err)
	}
	return here.Dev != above.Dev, nil
}
