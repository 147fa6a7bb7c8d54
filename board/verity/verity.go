// Package verity makes and describes dm-verity hash trees (Linux, Documentation/admin-guide/device-mapper/verity.rst; format 1 of
// cryptsetup's veritysetup): the image builder appends one to each root, and the initrd of an image maps the root through it, so that
// not one block of a root that was altered is ever read.
//
//	tree, root, err := verity.Tree(squashfs, blocks, salt) // superblock and tree, to be appended at blocks*BlockSize
//	s, err := verity.ParseSuperblock(b)                    // in the initrd
//	table := s.Table(device, hashStart, rootHash)
//
// Whoever alters superblock or tree changes the root hash, which the kernel command line names: nothing in them has to be trusted. All
// functions are pure. Tests compare with veritysetup, and fuzz the reader.
package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// BlockSize is that of data and of hashes, in bytes.
const BlockSize = 4096

const (
	superblockLen = 512
	maxBlocks     = 1 << 28 // 1 TiB
)

// Superblock says how a tree was made.
type Superblock struct {
	UUID   [16]byte
	Blocks uint64 // of data
	Salt   []byte
}

// Tree returns the superblock in a block of its own, the tree of the first blocks blocks of data behind it, and the root hash.
func Tree(data io.Reader, s Superblock) (tree []byte, root [sha256.Size]byte, err error) {
	if s.Blocks < 2 || s.Blocks > maxBlocks || len(s.Salt) > 256 {
		return nil, root, fmt.Errorf("a tree of %d blocks with %d bytes of salt cannot be made", s.Blocks, len(s.Salt))
	}
	h := sha256.New()
	sum := func(b []byte) []byte {
		h.Reset()
		h.Write(s.Salt)
		h.Write(b)
		return h.Sum(nil)
	}
	level := make([]byte, 0, s.Blocks*sha256.Size)
	block := make([]byte, BlockSize)
	for range s.Blocks {
		if _, err := io.ReadFull(data, block); err != nil {
			return nil, root, fmt.Errorf("read the data of the hash tree: %w", err)
		}
		level = append(level, sum(block)...)
	}
	var levels [][]byte
	for {
		for len(level)%BlockSize != 0 {
			level = append(level, 0)
		}
		levels = append(levels, level)
		if len(level) == BlockSize {
			break
		}
		var next []byte
		for b := level; len(b) > 0; b = b[BlockSize:] {
			next = append(next, sum(b[:BlockSize])...)
		}
		level = next
	}
	copy(root[:], sum(level))
	tree = s.encode()
	for i := len(levels) - 1; i >= 0; i-- {
		tree = append(tree, levels[i]...)
	}
	return tree, root, nil
}

func (s Superblock) encode() []byte {
	b := make([]byte, BlockSize)
	copy(b, "verity\x00\x00")
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint32(b[12:], 1)
	copy(b[16:], s.UUID[:])
	copy(b[32:], "sha256")
	binary.LittleEndian.PutUint32(b[64:], BlockSize)
	binary.LittleEndian.PutUint32(b[68:], BlockSize)
	binary.LittleEndian.PutUint64(b[72:], s.Blocks)
	binary.LittleEndian.PutUint16(b[80:], uint16(len(s.Salt)))
	copy(b[88:], s.Salt)
	return b
}

// ParseSuperblock reads the superblock at the start of b.
func ParseSuperblock(b []byte) (Superblock, error) {
	if len(b) < superblockLen || !bytes.Equal(b[:8], []byte("verity\x00\x00")) {
		return Superblock{}, errors.New("there is no dm-verity superblock")
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if u32(8) != 1 || u32(12) != 1 || u32(64) != BlockSize || u32(68) != BlockSize || string(bytes.TrimRight(b[32:64], "\x00")) != "sha256" {
		return Superblock{}, errors.New("the dm-verity superblock is not of format 1 with sha256 and blocks of 4096 bytes")
	}
	s := Superblock{UUID: [16]byte(b[16:32]), Blocks: binary.LittleEndian.Uint64(b[72:])}
	n := int(binary.LittleEndian.Uint16(b[80:]))
	if n > 256 || s.Blocks < 2 || s.Blocks > maxBlocks {
		return Superblock{}, fmt.Errorf("the dm-verity superblock is damaged: %d blocks, %d bytes of salt", s.Blocks, n)
	}
	s.Salt = bytes.Clone(b[88 : 88+n])
	return s, nil
}

// Table is the parameters of the device-mapper target for data and tree on one device (MAJOR:MINOR or a path). superblock is the block in which the
// superblock is; root is the root hash in hexadecimal digits. A block that is not what it was makes the kernel restart the machine: with two slots that is
// what brings the other one.
func (s Superblock) Table(device string, superblock uint64, root string) (string, error) {
	if b, err := hex.DecodeString(root); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not the 64 hexadecimal digits of a root hash", root)
	}
	salt := "-"
	if len(s.Salt) > 0 {
		salt = hex.EncodeToString(s.Salt)
	}
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s %s 1 restart_on_corruption", device, device, BlockSize, BlockSize, s.Blocks, superblock+1, root, salt), nil
}

// Sectors is the size of the mapped device in sectors of 512 bytes.
func (s Superblock) Sectors() uint64 { return s.Blocks * (BlockSize / 512) }

// Squashfs returns how many blocks a squashfs takes whose superblock b begins with (squashfs_fs.h, bytes_used).
func Squashfs(b []byte) (blocks uint64, err error) {
	if len(b) < 96 || !bytes.Equal(b[:4], []byte("hsqs")) {
		return 0, errors.New("there is no squashfs")
	}
	used := binary.LittleEndian.Uint64(b[40:])
	if used < BlockSize || used > maxBlocks*BlockSize {
		return 0, fmt.Errorf("the squashfs says that it has %d bytes, which cannot be", used)
	}
	return (used + BlockSize - 1) / BlockSize, nil
}
