package kubeletapi

import (
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
