package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// subPathsFolder holds, below a pod's folder, a mount point for each volumeMount with a subPath: CONTAINER/INDEX.
const subPathsFolder = "subpaths"

// subPathOf returns which part of its volume a mount shows, "" for all of it. expand replaces $(VAR).
func subPathOf(m *corev1.VolumeMount, expand func(string) string) (string, error) {
	sub := m.SubPath
	if m.SubPathExpr != "" {
		if sub = expand(m.SubPathExpr); strings.Contains(sub, "$(") {
			return "", waitFor(reasonConfigError, "volumeMount %q: subPathExpr %q names a variable that the container does not have", m.Name, m.SubPathExpr)
		}
	}
	if sub != "" && (!filepath.IsLocal(sub) || slices.Contains(strings.Split(sub, "/"), "..")) {
		return "", waitFor(reasonConfigError, "volumeMount %q: subPath %q must be a relative path without \"..\"", m.Name, sub)
	}
	return sub, nil
}

// bindSubPath shows a part of a volume at a mount point below the pod's folder, and returns that. A container that can write to the
// volume may change it at any time, symbolic links included: so the part is opened beneath the volume's folder, following links only
// inside it, and what is mounted is what was opened, not a path that could lead elsewhere by then. A part that does not exist is made
// as a folder if create is set. private as in Mounter.Bind.
func bindSubPath(mount Mounter, volume, sub, target string, create, private bool) error {
	root, err := os.OpenRoot(volume)
	if err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	defer root.Close() //nolint:errcheck // read only
	part, err := root.OpenFile(sub, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = makeSubPath(root, sub); err == nil {
			part, err = root.OpenFile(sub, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("subPath %q of %s: %w", sub, volume, err)
	}
	defer part.Close() //nolint:errcheck // read only
	info, err := part.Stat()
	if err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("subPath %q of %s is neither a folder nor a file, but %s", sub, volume, info.Mode())
	}
	if err := mountPoint(mount, target, info.IsDir()); err != nil {
		return fmt.Errorf("subPath %q: %w", sub, err)
	}
	return mount.Bind("/proc/self/fd/"+strconv.FormatUint(uint64(part.Fd()), 10), target, private)
}

// makeSubPath makes the folders of a part, with the mode and group of the volume's own.
func makeSubPath(root *os.Root, sub string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	path := ""
	for part := range strings.SplitSeq(filepath.Clean(sub), "/") {
		path = filepath.Join(path, part)
		if err := root.Mkdir(path, folderMode); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		dir, err := root.Open(path)
		if err != nil {
			return err
		}
		err = dir.Chmod(info.Mode().Perm() | info.Mode()&os.ModeSetgid)
		if st, ok := info.Sys().(*syscall.Stat_t); ok && err == nil {
			err = dir.Chown(-1, int(st.Gid))
		}
		if err = errors.Join(err, dir.Close()); err != nil {
			return err
		}
	}
	return nil
}

// mountPoint makes an empty folder or file to mount on. What an earlier start of the container left mounted there is taken away.
func mountPoint(mount Mounter, path string, dir bool) error {
	if err := mount.Unmount(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if dir {
		return os.MkdirAll(path, folderMode)
	}
	if err := os.MkdirAll(filepath.Dir(path), folderMode); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

// unmountSubPaths takes away all such mounts of a pod.
func unmountSubPaths(dir string, mount Mounter) error {
	points, err := filepath.Glob(filepath.Join(escapeGlob(dir), subPathsFolder, "*", "*"))
	if err != nil {
		return err
	}
	for _, p := range points {
		if err := mount.Unmount(p); err != nil {
			return err
		}
	}
	return nil
}

// subPaths mounts the parts of volumes that a container wants and notes where.
func (s *starter) subPaths(l *launch) error {
	dir := filepath.Join(s.w.m.podDir(s.w.uid), subPathsFolder, l.container.Name)
	filled := filledVolumes(&l.pod.Spec)
	for i := range l.container.VolumeMounts {
		m := &l.container.VolumeMounts[i]
		sub, err := subPathOf(m, func(text string) string { return expandAll([]string{text}, l.env)[0] })
		if err != nil {
			return err
		}
		if sub == "" || l.images[m.Name] != nil {
			continue
		}
		target := filepath.Join(dir, strconv.Itoa(i))
		private := propagationOf(m) == propagationNone // or else what the gateway mounts below would keep the pod from being removed
		if err := bindSubPath(s.w.m.o.Mount, l.volumes[m.Name], sub, target, !filled[m.Name], private); err != nil {
			return waitFor(reasonConfigError, "volumeMount %q: %v", m.Name, err)
		}
		if l.parts == nil {
			l.parts = map[int]string{}
		}
		l.parts[i] = target
	}
	return nil
}
