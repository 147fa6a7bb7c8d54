package initrd

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/skerry/skerry/board/gpt"
)

// partition is one that the kernel has found.
type partition struct {
	name   string // PARTNAME
	device string // as vda6
	disk   string // as vda
	number int
}

// partitions lists what is in /sys/class/block, in the order of device names.
func (m *Machine) partitions() []partition {
	files, _ := filepath.Glob(filepath.Join(m.Sys, "class/block/*/uevent"))
	sort.Strings(files)
	var out []partition
	for _, file := range files {
		u := fields(file)
		n, err := strconv.Atoi(u["PARTN"])
		if err != nil || u["DEVTYPE"] != "partition" {
			continue
		}
		// The link of a partition goes to the folder below its disk's.
		at, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			continue
		}
		out = append(out, partition{name: u["PARTNAME"], device: u["DEVNAME"], disk: filepath.Base(filepath.Dir(at)), number: n})
	}
	return out
}

func fields(file string) map[string]string {
	out := map[string]string{}
	f, err := os.Open(file)
	if err != nil {
		return out
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), "="); ok {
			out[k] = v
		}
	}
	return out
}

// find returns the partition of this name on a disk, any disk if that is empty.
func find(all []partition, name, disk string) (partition, bool) {
	for _, p := range all {
		if p.name == name && (disk == "" || p.disk == disk) {
			return p, true
		}
	}
	return partition{}, false
}

// growPartition gives the last partition of the disk, which has to be data, all that the disk has left: the table first, its backup before the
// original, then what the kernel knows. A disk on which that fails is used as it is.
func (m *Machine) growPartition(data partition) error {
	sectors, err := m.Kernel.Sectors(m.dev(data.disk))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(m.dev(data.disk), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, gpt.HeadSectors*gpt.Sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read the partition table: %w", err)
	}
	table, err := gpt.Parse(head)
	if err != nil {
		return err
	}
	grown, ok := table.Grow(sectors)
	if !ok {
		return nil
	}
	last := grown.Partitions[len(grown.Partitions)-1]
	if last.Name != dataPartition || data.number != len(grown.Partitions) {
		return fmt.Errorf("partition %q is the last one on the disk; only %s grows", last.Name, dataPartition)
	}
	for _, w := range []struct {
		b  []byte
		at int64
	}{{grown.Backup(), grown.BackupOffset()}, {grown.Primary(), 0}} {
		if _, err := f.WriteAt(w.b, w.at); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("write the partition table: %w", err)
		}
	}
	if err := m.Kernel.Resize(m.dev(data.disk), data.number, last.First, last.Last-last.First+1); err != nil {
		return fmt.Errorf("the table is written; the kernel does not take it before the next start: %w", err)
	}
	m.say("the data partition has %d MiB now", (last.Last-last.First+1)>>11)
	return nil
}

func (m *Machine) dev(name string) string { return filepath.Join(m.Dev, name) }
