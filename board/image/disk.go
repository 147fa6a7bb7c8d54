package image

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/gpt"
	"github.com/skerry/skerry/board/initrd"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// align is where partitions begin: flash erases at least as much at a time.
const align = 1 << 20

// emptyData is how large the data partition of an image is; the first start makes it what the disk has left.
const emptyData = 1 << 20

// layout makes the partition table for a board.
func layout(s *board.Storage, seed string) gpt.Table {
	t := gpt.Table{Disk: identifier("disk", seed)}
	at := int64(align)
	for _, p := range s.Partitions {
		size := int64(p.Size)
		if p.Name == s.Data {
			size = emptyData
		}
		part := gpt.Partition{Name: p.Name, Type: gpt.Linux, ID: identifier("partition", seed, p.Name), First: uint64(at / gpt.Sector)}
		if p.Filesystem == "vfat" {
			part.Type = gpt.BasicData
		}
		if p.Name == FirmwarePartition {
			part.Attributes = gpt.Bootable
		}
		end := (at + size + align - 1) / align * align
		part.Last = uint64((at+size+gpt.Sector-1)/gpt.Sector) - 1
		t.Partitions = append(t.Partitions, part)
		at = end
	}
	t.Sectors = uint64((at + align) / gpt.Sector)
	return t
}

// writeDisk puts the partitions' contents, files by the partitions' names, into a disk image with holes where nothing is.
func writeDisk(out string, t gpt.Table, s *board.Storage, content map[string]string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(t.Sectors) * gpt.Sector); err != nil {
		return err
	}
	if _, err := f.WriteAt(t.Primary(), 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(t.Backup(), t.BackupOffset()); err != nil {
		return err
	}
	for _, p := range t.Partitions {
		at := int64(p.First) * gpt.Sector
		if p.Name == s.Data {
			if _, err := f.WriteAt([]byte(initrd.EmptyData), at); err != nil {
				return err
			}
		}
		if file := content[p.Name]; file != "" {
			if err := copyInto(f, at, int64(p.Last-p.First+1)*gpt.Sector, file); err != nil {
				return fmt.Errorf("partition %s: %w", p.Name, err)
			}
		}
	}
	return f.Close()
}

// copyInto copies a file, leaving out blocks of zeros.
func copyInto(f *os.File, at, room int64, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil {
		return err
	} else if st.Size() > room {
		return fmt.Errorf("%s has %d bytes, and there is room for %d: give the partition more in the board's file", file, st.Size(), room)
	}
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(in, block)
		if n > 0 && string(block[:n]) != string(zeros[:n]) {
			if _, err := f.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			if n == 0 || err == io.ErrUnexpectedEOF || err == io.EOF {
				return nil
			}
			return err
		}
	}
}
