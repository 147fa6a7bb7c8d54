package pods

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LocalMachine measures the machine that it runs on.
type LocalMachine struct {
	Dir  string // a folder on the file system that holds the pods
	Proc string // default /proc

	Groups Groups // cgroups that hold all pods
}

// Measure reads /proc and asks the file system.
func (l LocalMachine) Measure() (Measurement, error) {
	setDefault(&l.Proc, "/proc")
	v := Measurement{CPUs: int64(runtime.NumCPU())}
	errs := []error{l.memory(&v), l.disk(&v)}
	v.PIDsMax = l.number("sys/kernel/pid_max")
	if n := l.number("sys/kernel/threads-max"); n > 0 && n < v.PIDsMax { // what a small gateway runs out of first
		v.PIDsMax = n
	}
	if text, err := os.ReadFile(filepath.Join(l.Proc, "loadavg")); err == nil {
		if f := strings.Fields(string(text)); len(f) > 3 { // "0.1 0.1 0.1 running/all last"
			_, all, _ := strings.Cut(f[3], "/")
			v.PIDs, _ = strconv.ParseInt(all, 10, 64)
		}
	}
	l.Groups.narrow(&v)
	return v, errors.Join(errs...)
}

func (l LocalMachine) number(name string) int64 {
	text, err := os.ReadFile(filepath.Join(l.Proc, filepath.FromSlash(name)))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

func (l LocalMachine) memory(v *Measurement) error {
	f, err := os.Open(filepath.Join(l.Proc, "meminfo"))
	if err != nil {
		return fmt.Errorf("measure memory: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(w[1], 10, 64)
		switch w[0] {
		case "MemTotal:":
			v.Memory = kib << 10
		case "MemAvailable:":
			v.MemoryAvailable = kib << 10
		}
	}
	return lines.Err()
}

func (l LocalMachine) disk(v *Measurement) error {
	st, err := statfs(l.Dir)
	if err != nil {
		return err
	}
	v.Disk, v.DiskAvailable = sizes(st)
	v.Inodes, v.InodesFree = int64(st.Files), int64(st.Ffree) //nolint:gosec // counts fit
	return nil
}

func statfs(path string) (*unix.Statfs_t, error) {
	st := new(unix.Statfs_t)
	if err := unix.Statfs(path, st); err != nil {
		return nil, fmt.Errorf("measure the disk at %s: %w", path, err)
	}
	return st, nil
}

func sizes(st *unix.Statfs_t) (total, free int64) {
	block := int64(st.Frsize)
	return int64(st.Blocks) * block, int64(st.Bavail) * block //nolint:gosec // sizes of file systems fit
}

// flushDisk writes what is in memory of the file system that holds path.
func flushDisk(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("flush the disk at %s: %w", path, err)
	}
	return nil
}

// diskUsage measures the file system that holds path.
func diskUsage(path string) (total, free int64, err error) {
	st, err := statfs(path)
	if err != nil {
		return 0, 0, err
	}
	total, free = sizes(st)
	return total, free, nil
}

// fileSystem measures the file system that holds path.
func fileSystem(path string) (FileSystem, error) {
	st, err := statfs(path)
	if err != nil {
		return FileSystem{}, err
	}
	var at unix.Stat_t
	if err := unix.Stat(path, &at); err != nil {
		return FileSystem{}, fmt.Errorf("measure the disk at %s: %w", path, err)
	}
	f := FileSystem{Device: uint64(at.Dev), Inodes: int64(st.Files), InodesFree: int64(st.Ffree)} //nolint:gosec,unconvert // counts fit; Dev is narrower elsewhere
	f.Size, f.Available = sizes(st)
	return f, nil
}
