// Package gpt reads and writes GUID partition tables (UEFI 2.10, chapter 5): the image builder makes them, and the initrd of
// an image finds its partitions by their names and gives the last one what the disk has left.
//
//	t, err := gpt.Parse(first34Sectors)
//	grown, ok := t.Grow(sectorsOfTheDisk)
//	disk.WriteAt(grown.Backup(), grown.BackupOffset()) // first, and synced: until the primary one is there the old table counts
//	disk.WriteAt(grown.Primary(), 0)
//
// Only disks with sectors of 512 bytes and tables of 128 entries are spoken of, which is what eMMC, SD cards and virtual disks have.
// All functions are pure and safe for concurrent use. Tests compare with sfdisk, and fuzz the reader.
package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// Geometry of the tables that this package writes.
const (
	Sector      = 512
	HeadSectors = 34 // protective MBR, header, 128 entries
	tailSectors = 33 // 128 entries, header
	entries     = 128
	entrySize   = 128
	headerSize  = 92
	Bootable    = uint64(1) << 2 // "legacy BIOS bootable": where U-Boot looks for its script
)

// GUID is written as the table has it: the first three groups little-endian.
type GUID [16]byte

// Types of partitions.
var (
	Linux     = GUID{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4} // 0FC63DAF-8483-4772-8E79-3D69D8477DE4
	BasicData = GUID{0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7} // EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
)

// Partition is one entry. First and Last are sectors, both included.
type Partition struct {
	Name       string
	Type, ID   GUID
	First      uint64
	Last       uint64
	Attributes uint64
}

// Table is a partition table and the disk that it is for.
type Table struct {
	Disk       GUID
	Sectors    uint64 // of the disk
	Partitions []Partition
}

// ErrNone says that there is no table.
var ErrNone = errors.New("no GUID partition table")

// Parse reads the first HeadSectors sectors of a disk. The table's own idea of the disk's size is in Sectors.
func Parse(head []byte) (Table, error) {
	if len(head) < HeadSectors*Sector {
		return Table{}, fmt.Errorf("%d bytes are less than the %d of a partition table", len(head), HeadSectors*Sector)
	}
	h := head[Sector : 2*Sector]
	if !bytes.Equal(h[:8], []byte("EFI PART")) {
		return Table{}, ErrNone
	}
	sum := binary.LittleEndian.Uint32(h[16:])
	plain := bytes.Clone(h[:headerSize])
	binary.LittleEndian.PutUint32(plain[16:], 0)
	if size := binary.LittleEndian.Uint32(h[12:]); size != headerSize || crc32.ChecksumIEEE(plain) != sum {
		return Table{}, errors.New("the header of the partition table is damaged")
	}
	if at, n, size := binary.LittleEndian.Uint64(h[72:]), binary.LittleEndian.Uint32(h[80:]), binary.LittleEndian.Uint32(h[84:]); at != 2 || n != entries || size != entrySize {
		return Table{}, fmt.Errorf("a partition table of %d entries of %d bytes at sector %d is not one of ours", n, size, at)
	}
	list := head[2*Sector : HeadSectors*Sector]
	if crc32.ChecksumIEEE(list) != binary.LittleEndian.Uint32(h[88:]) {
		return Table{}, errors.New("the entries of the partition table are damaged")
	}
	t := Table{Disk: GUID(h[56:72]), Sectors: binary.LittleEndian.Uint64(h[32:]) + 1}
	first, last := binary.LittleEndian.Uint64(h[40:]), binary.LittleEndian.Uint64(h[48:])
	for i := range entries {
		e := list[i*entrySize : (i+1)*entrySize]
		if GUID(e) == (GUID{}) {
			continue
		}
		p := Partition{
			Type: GUID(e[0:16]), ID: GUID(e[16:32]), First: binary.LittleEndian.Uint64(e[32:]), Last: binary.LittleEndian.Uint64(e[40:]),
			Attributes: binary.LittleEndian.Uint64(e[48:]), Name: name(e[56:128]),
		}
		if p.First < first || p.Last > last || p.First > p.Last {
			return Table{}, fmt.Errorf("partition %q lies outside of the disk", p.Name)
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}

func name(b []byte) string {
	u := make([]uint16, 0, 36)
	for i := 0; i < len(b); i += 2 {
		c := binary.LittleEndian.Uint16(b[i:])
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	return string(utf16.Decode(u))
}

// Grow returns the table for a disk of so many sectors, in which the partition that lies last ends where the disk's room does. ok is false if the
// disk is not larger than the table says.
func (t Table) Grow(sectors uint64) (grown Table, ok bool) {
	if sectors <= t.Sectors || len(t.Partitions) == 0 {
		return t, false
	}
	grown = t
	grown.Sectors = sectors
	grown.Partitions = append([]Partition(nil), t.Partitions...)
	last := 0
	for i, p := range grown.Partitions {
		if p.First > grown.Partitions[last].First {
			last = i
		}
	}
	const align = (1 << 20) / Sector
	end := (sectors-tailSectors)/align*align - 1
	if end <= grown.Partitions[last].Last {
		return t, false
	}
	grown.Partitions[last].Last = end
	return grown, true
}

// BackupOffset is where Backup belongs, in bytes.
func (t Table) BackupOffset() int64 { return int64(t.Sectors-tailSectors) * Sector }

// Primary is the head of the disk: protective MBR, header and entries.
func (t Table) Primary() []byte {
	out := make([]byte, HeadSectors*Sector)
	mbr := out[446:462]
	copy(mbr, []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(mbr[12:], uint32(min(t.Sectors-1, 0xffffffff)))
	out[510], out[511] = 0x55, 0xaa
	list := t.entries()
	copy(out[Sector:], t.header(1, t.Sectors-1, 2, list))
	copy(out[2*Sector:], list)
	return out
}

// Backup is the end of the disk: entries and header.
func (t Table) Backup() []byte {
	list := t.entries()
	return append(list, t.header(t.Sectors-1, 1, t.Sectors-tailSectors, list)...)
}

func (t Table) entries() []byte {
	list := make([]byte, entries*entrySize)
	for i, p := range t.Partitions {
		e := list[i*entrySize:]
		copy(e, p.Type[:])
		copy(e[16:], p.ID[:])
		binary.LittleEndian.PutUint64(e[32:], p.First)
		binary.LittleEndian.PutUint64(e[40:], p.Last)
		binary.LittleEndian.PutUint64(e[48:], p.Attributes)
		for j, c := range utf16.Encode([]rune(p.Name)) {
			if j < 36 {
				binary.LittleEndian.PutUint16(e[56+2*j:], c)
			}
		}
	}
	return list
}

func (t Table) header(self, other, list uint64, entryBytes []byte) []byte {
	h := make([]byte, Sector)
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint32(h[8:], 0x00010000)
	binary.LittleEndian.PutUint32(h[12:], headerSize)
	binary.LittleEndian.PutUint64(h[24:], self)
	binary.LittleEndian.PutUint64(h[32:], other)
	binary.LittleEndian.PutUint64(h[40:], HeadSectors)
	binary.LittleEndian.PutUint64(h[48:], t.Sectors-tailSectors-1)
	copy(h[56:], t.Disk[:])
	binary.LittleEndian.PutUint64(h[72:], list)
	binary.LittleEndian.PutUint32(h[80:], entries)
	binary.LittleEndian.PutUint32(h[84:], entrySize)
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(entryBytes))
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}
