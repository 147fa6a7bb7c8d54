package kubeletapi

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// diskStats measures the file system that holds dir; nil if that is not possible.
func diskStats(dir string, now time.Time) *fsStats {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil
	}
	block := uint64(st.Frsize) //nolint:gosec // a block's size is positive
	free, total := st.Bavail*block, st.Blocks*block
	used := (st.Blocks - st.Bfree) * block
	inodes, inodesFree := st.Files, st.Ffree
	inodesUsed := inodes - inodesFree
	return &fsStats{Time: now, AvailableBytes: &free, CapacityBytes: &total, UsedBytes: &used, InodesFree: &inodesFree, Inodes: &inodes, InodesUsed: &inodesUsed}
}

// inMemory reports whether a folder is on a tmpfs.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && int64(st.Type) == unix.TMPFS_MAGIC //nolint:unconvert // an int32 on 32-bit machines
}

// treeUsage adds up what is below dir on dir's own file system. errBulky: there is more than limit; other errors: ctx has ended, or there is
// no dir. What is removed meanwhile counts nothing, and files with several names count once for each.
func treeUsage(ctx context.Context, dir string, limit int) (bytes, inodes uint64, err error) {
	root, err := os.Lstat(dir)
	if err != nil {
		return 0, 0, err
	}
	own, ok := root.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fs.ErrInvalid
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil //nolint:nilerr // it was removed meanwhile
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
		case st.Dev != own.Dev && e.IsDir():
			return fs.SkipDir // mounted there
		case st.Dev == own.Dev:
			bytes += uint64(max(0, st.Blocks)) * 512 //nolint:gosec // stat(2): always units of 512
			if inodes++; inodes > uint64(limit) {    //nolint:gosec // a constant
				return errBulky
			}
		}
		return nil
	})
	return bytes, inodes, err
}
