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

// Bind shows source, a file or folder, at target. A bind mount is in the peer group of its source (mount_namespaces(7)) unless it is private.
func (m kernelMounter) Bind(source, target string, private bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount on %s: %w (the agent must run as root)", target, err)
	}
	if !private {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make the mount on %s private: %w", target, err), m.Unmount(target))
	}
	return nil
}

// Unmount takes away what is mounted on a path.
func (kernelMounter) Unmount(path string) error {
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if err == nil || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // EINVAL: nothing is mounted there
		return nil
	}
	if mounted, look := isMountPoint(path); look == nil && !mounted && errors.Is(err, unix.EPERM) {
		return nil // who may not unmount has not mounted
	}
	return fmt.Errorf("unmount %s: %w", path, err)
}

// Below lists what is mounted below a folder.
func (kernelMounter) Below(dir string) ([]string, error) {
	resolved, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	defer f.Close() //nolint:errcheck // read only
	return mountsBelow(f, resolved)
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
