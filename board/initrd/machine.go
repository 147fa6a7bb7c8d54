package initrd

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Machine is what Boot does to the machine. The paths of devices are names below /dev.
type Machine struct {
	Root string    // where the slot's root is mounted, as /sysroot
	Dev  string    // where devices are
	Sys  string    // where sysfs is
	Log  io.Writer // the console
	Kernel
}

// Kernel is the part of a machine that needs Linux and root's rights.
type Kernel interface {
	// Mount mounts source on target; fstype "" with MS_BIND and MS_MOVE. What was moved can still be reached by its old name.
	Mount(source, target, fstype string, flags uintptr, data string) error
	Unmount(target string) error
	// Verity makes a device-mapper device of this name and returns its path.
	Verity(name string, sectors uint64, table string) (device string, err error)
	// Run runs a program of the root with the root as its own and returns its exit status and what it said.
	Run(program string, args ...string) (status int, said string, err error)
	Disk
}

// Disk is a kernel's view of disks.
type Disk interface {
	// Sectors is the size of a device in sectors of 512 bytes.
	Sectors(device string) (uint64, error)
	// Resize tells the kernel that a partition of a disk, number n, which begins at first, has so many sectors now.
	Resize(disk string, n int, first, sectors uint64) error
	// GrowFilesystem makes a mounted ext4 as large as its partition of so many bytes.
	GrowFilesystem(mount string, bytes uint64) error
}

func (m *Machine) say(format string, args ...any) {
	fmt.Fprintf(m.Log, "skerry: "+format+"\n", args...)
}

// wait tries until ok says yes or the time is over. Disks and USB come when they come.
func wait(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
