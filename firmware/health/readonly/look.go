package readonly

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Look returns a function that says whether the file system of a folder is read-only. mounts is /proc/self/mounts: since Linux 6.15 ext4 keeps its flags after an error,
// and says it among its options only.
func Look(dir, mounts string) func() (bool, error) {
	return func() (bool, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return false, fmt.Errorf("look at the file system of %s: %w", dir, err)
		}
		if st.Flags&unix.ST_RDONLY != 0 {
			return true, nil
		}
		b, err := os.ReadFile(mounts) //nolint:gosec // proc's
		if err != nil {
			return false, err
		}
		return emergency(string(b), dir), nil
	}
}

// emergency says whether the mount that holds a folder has become read-only by an error. The one that is mounted last at a place is what is seen there.
func emergency(mounts, dir string) bool {
	best, found := -1, false
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		at := strings.ReplaceAll(f[1], `\040`, " ")
		if (at == "/" || dir == at || strings.HasPrefix(dir, at+"/")) && len(at) >= best {
			best, found = len(at), strings.Contains(","+f[3]+",", ",emergency_ro,")
		}
	}
	return found
}
