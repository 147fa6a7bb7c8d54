package scenarios

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf16"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// Stick makes the content of a USB stick at path: a disk with one FAT partition that holds files by their name.
func Stick(ctx context.Context, path string, sizeMiB int, files map[string]string) error {
	const start = 1 << 20
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, int64(sizeMiB)<<20)); err != nil {
		return fmt.Errorf("make a USB stick: %w", err)
	}
	mbr := make([]byte, 512)
	mbr[446+4] = 0x0c // FAT32 with LBA addresses
	binary.LittleEndian.PutUint32(mbr[446+8:], start/512)
	binary.LittleEndian.PutUint32(mbr[446+12:], uint32(sizeMiB<<20-start)/512)
	mbr[510], mbr[511] = 0x55, 0xaa
	if err := writeAt(path, mbr, 0); err != nil {
		return err
	}
	at := path + "@@" + strconv.Itoa(start)
	if err := mtool(ctx, "mformat", "-i", at, "-F", "-T", strconv.Itoa((sizeMiB<<20-start)/512), "-h", "64", "-s", "32", "-v", "SKERRY", "::"); err != nil {
		return err
	}
	return copyIn(ctx, at, files)
}

// PutFiles copies files into the FAT partition of a disk image that has this name in its GPT.
func PutFiles(ctx context.Context, image, partition string, files map[string]string) error {
	start, err := PartitionStart(image, partition)
	if err != nil {
		return err
	}
	return copyIn(ctx, image+"@@"+strconv.FormatInt(start, 10), files)
}

func copyIn(ctx context.Context, at string, files map[string]string) error {
	for name, from := range files {
		if err := mtool(ctx, "mcopy", "-o", "-i", at, from, "::/"+filepath.Base(name)); err != nil {
			return err
		}
	}
	return nil
}

func mtool(ctx context.Context, name string, args ...string) error {
	_, err := process.Output(ctx, process.Spec{Path: name, Args: args, Env: []string{"MTOOLS_SKIP_CHECK=1"}})
	return err
}

func writeAt(path string, b []byte, at int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// PartitionStart finds where, in bytes, a partition begins: by its name in a GUID partition table (UEFI 2.10, 5.3) with blocks of 512 bytes.
func PartitionStart(image, name string) (int64, error) {
	f, err := os.Open(image)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	const entries, size = 128, 128
	table := make([]byte, 512+entries*size)
	if _, err := f.ReadAt(table, 512); err != nil {
		return 0, fmt.Errorf("partition table of %s: %w", image, err)
	}
	if string(table[:8]) != "EFI PART" {
		return 0, fmt.Errorf("%s has no GUID partition table", image)
	}
	for i := range entries {
		e := table[512+i*size:][:size]
		var label []uint16
		for j := 56; j < size; j += 2 {
			if c := binary.LittleEndian.Uint16(e[j:]); c != 0 {
				label = append(label, c)
			}
		}
		if string(utf16.Decode(label)) == name {
			return int64(binary.LittleEndian.Uint64(e[32:])) * 512, nil
		}
	}
	return 0, fmt.Errorf("%s has no partition %s", image, name)
}
