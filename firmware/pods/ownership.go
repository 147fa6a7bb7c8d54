package pods

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// What a pod's fsGroup may do with a volume (the kubelet's pkg/volume/volume_linux.go).
const (
	groupReadsWrites = 0o660
	groupSearches    = 0o110
)

// ownVolume gives a volume to a group: all that is in it belongs to it, may be read and written by it, and what is made in its folders
// will be so, too. With onRootMismatch nothing is done if the volume's own folder is as it should be. Symbolic links are not followed,
// and nothing outside of the volume is touched, whatever somebody changes in it meanwhile.
func ownVolume(dir string, group int, onRootMismatch bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("fsGroup: %w", err)
	}
	defer root.Close() //nolint:errcheck // read only
	if info, err := root.Stat("."); err == nil && onRootMismatch && owned(info, group) {
		return nil
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := root.Lchown(path, -1, group); err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			return nil
		case mode.IsDir():
			return root.Chmod(path, mode.Perm()|mode&(os.ModeSticky)|groupReadsWrites|groupSearches|os.ModeSetgid)
		default:
			return root.Chmod(path, mode.Perm()|mode&(os.ModeSetuid|os.ModeSetgid)|groupReadsWrites)
		}
	})
	if err != nil {
		return fmt.Errorf("fsGroup %d of %s: %w", group, dir, err)
	}
	return nil
}

// owned reports whether a folder belongs to a group as ownVolume leaves it.
func owned(info fs.FileInfo, group int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	const want = groupReadsWrites | groupSearches
	return ok && int(st.Gid) == group && info.Mode().Perm()&want == want && info.Mode()&os.ModeSetgid != 0
}
