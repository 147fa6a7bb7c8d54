// Package durable replaces small files so that a power cut at any instant leaves the old content or the new, whole: identities, what must be
// remembered of a pod, the network configuration of pods.
//
//	err := durable.Replace("/var/lib/skerry/identity/node", content, 0o600)
//
// The content is written to a file of its own in the same folder, synced, renamed, and the folder is synced (rename(2) is atomic, but is
// durable only with its folder). What the store keeps has a log of its own and does not come here: flash is a wear part, and each call costs it two syncs.
//
// Replace may be called by any goroutine and by several processes, for the same path too: they take turns (skerryd join beside skerryd run).
// The tests have them compete, and look at the folder after failures at each step.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Suffix is at the end of the name of a file that is about to replace another: NAME.next. After a power cut one may be left; the next
// Replace of the same path overwrites it.
const Suffix = ".next"

// Replace makes content that of path, with mode, whatever the umask. The folder must be there. After an error the file at path is as before,
// unless only the folder could not be synced.
func Replace(path string, content []byte, mode fs.FileMode) error {
	f, err := turn(path + Suffix)
	if err != nil {
		return err
	}
	if err := write(f, content, mode); err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()), f.Close())
	}
	if err := f.Close(); err != nil { // the lock is given back after the rename
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// turn opens the file next, alone: whoever else replaces the same file waits until this one is closed.
func turn(next string) (*os.File, error) {
	for {
		f, err := os.OpenFile(filepath.Clean(next), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { //nolint:gosec // a descriptor fits
			return nil, errors.Join(fmt.Errorf("lock %s: %w", next, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Lstat(next); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		if err := f.Close(); err != nil { // it has replaced its file meanwhile, or was removed
			return nil, err
		}
	}
}

func write(f *os.File, content []byte, mode fs.FileMode) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // nothing was written through it
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// MakeDir makes the folder path with mode, and those above it that are missing. Each one that it made is durable: a folder whose parent was not synced may be
// gone after a power cut, with all that was synced in it.
func MakeDir(path string, mode fs.FileMode) error {
	path = filepath.Clean(path)
	var missing []string
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, dir)
	}
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	for _, dir := range missing {
		if err := SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}
