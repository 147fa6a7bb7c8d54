package pods

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// projected is one file of a configMap, secret, downwardAPI or projected volume.
type projected struct {
	data []byte
	mode os.FileMode
	uid  int // who owns it
}

// payload is the content of such a volume: clean relative paths to files.
type payload map[string]projected

// add puts a file in, if its path stays inside the volume.
func (p payload) add(name string, data []byte, mode os.FileMode) error {
	clean := path.Clean(name)
	if name == "" || path.IsAbs(name) || clean != name || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "..") {
		return waitFor(reasonConfigError, "%q is not a relative path inside the volume", name)
	}
	p[clean] = projected{data: data, mode: mode}
	return nil
}

const (
	dataLink   = "..data"
	nextLink   = "..data_next"
	setPrefix  = "..set_"
	folderMode = 0o755
)

// writePayload makes dir show exactly p, atomically: a new folder is filled and synced, the symbolic link ..data is renamed over
// the old one, and every file is reached through ..data (the layout of the kubelet's AtomicWriter, which applications watch).
// It returns whether anything changed. gid, if not negative, owns the files, which its group may then read.
func writePayload(dir string, p payload, gid int) (changed bool, err error) {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return false, err
	}
	if err := os.Chmod(dir, folderMode); err != nil { // whatever the umask
		return false, err
	}
	current, _ := os.Readlink(filepath.Join(dir, dataLink))
	if current != "" && samePayload(filepath.Join(dir, filepath.Base(current)), p, gid) {
		return false, linkNames(dir, p)
	}
	set, err := os.MkdirTemp(dir, setPrefix)
	if err != nil {
		return false, err
	}
	if err := fillSet(set, p, gid); err != nil {
		_ = os.RemoveAll(set)
		return false, err
	}
	next := filepath.Join(dir, nextLink)
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := os.Symlink(filepath.Base(set), next); err != nil {
		return false, err
	}
	if err := os.Rename(next, filepath.Join(dir, dataLink)); err != nil {
		return false, err
	}
	if err := linkNames(dir, p); err != nil {
		return false, err
	}
	return true, removeOldSets(dir, filepath.Base(set))
}

func fillSet(set string, p payload, gid int) error {
	if err := os.Chmod(set, folderMode); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		f := p[name]
		file := filepath.Join(set, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), folderMode); err != nil {
			return err
		}
		if err := os.WriteFile(file, f.data, 0o600); err != nil {
			return err
		}
		if gid >= 0 || f.uid != 0 {
			if err := os.Chown(file, orAsIs(f.uid), gid); err != nil {
				return err
			}
		}
		if err := os.Chmod(file, fileMode(f.mode, gid)); err != nil {
			return err
		}
	}
	return nil
}

// orAsIs is what chown(2) takes for "leave it" in the place of root, who owns what the agent makes.
func orAsIs(uid int) int {
	if uid == 0 {
		return -1
	}
	return uid
}

// fileMode lets the pod's fsGroup read the file, as the kubelet does for read-only volumes.
func fileMode(mode os.FileMode, gid int) os.FileMode {
	if gid >= 0 {
		mode |= 0o440
	}
	return mode.Perm()
}

// samePayload reports whether a folder holds exactly p.
func samePayload(set string, p payload, gid int) bool {
	seen := 0
	err := filepath.WalkDir(set, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(set, file)
		if err != nil {
			return err
		}
		want, ok := p[filepath.ToSlash(rel)]
		if !ok {
			return fs.ErrNotExist
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() != int64(len(want.data)) || info.Mode().Perm() != fileMode(want.mode, gid) {
			return fs.ErrNotExist
		}
		have, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(have, want.data) {
			return fs.ErrNotExist
		}
		seen++
		return nil
	})
	return err == nil && seen == len(p)
}

// linkNames makes the names that users see: symbolic links into ..data for the first element of each path. Names that are no
// longer there are removed last.
func linkNames(dir string, p payload) error {
	want := map[string]bool{}
	for name := range p {
		top, _, _ := strings.Cut(name, "/")
		want[top] = true
	}
	for top := range want {
		link := filepath.Join(dir, top)
		target := path.Join(dataLink, top)
		if have, err := os.Readlink(link); err == nil && have == target {
			continue
		}
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !want[e.Name()] && !strings.HasPrefix(e.Name(), "..") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeOldSets(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), setPrefix) && e.Name() != keep {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove what an earlier version of the volume held: %w", err)
			}
		}
	}
	return nil
}
