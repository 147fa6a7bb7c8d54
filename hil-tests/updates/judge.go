package updates

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/gpt"
	"github.com/skerry/skerry/board/verity"
	"github.com/skerry/skerry/hil-tests/cutlog"
)

// System is a system that may be in a slot: the content of its boot partition, and the root that this names.
type System struct {
	Version  string
	boot     [sha256.Size]byte
	bootSize int64
	rootHash []byte
}

// NewSystem takes it from what is written to a boot partition.
func NewSystem(version string, boot []byte) (System, error) {
	const name = "skerry.roothash="
	i := bytes.Index(boot, []byte(name))
	if i < 0 || len(boot) < i+len(name)+2*sha256.Size {
		return System{}, fmt.Errorf("the boot partition of version %s names no root: there is no %s in it", version, name)
	}
	hash, err := hex.DecodeString(string(boot[i+len(name):][:2*sha256.Size]))
	if err != nil {
		return System{}, fmt.Errorf("the root that the boot partition of version %s names: %w", version, err)
	}
	return System{version, sha256.Sum256(boot), int64(len(boot)), hash}, nil
}

// LoadSystem takes it from an image of a boot partition.
func LoadSystem(version, image string) (System, error) {
	b, err := os.ReadFile(filepath.Clean(image))
	if err != nil {
		return System{}, err
	}
	return NewSystem(version, b)
}

// Judge says what a gateway does with a disk after a power cut: which slots its boot script would try, by bootenv's model of it, and whether what is in them is
// whole, by hashes of all of it. It remembers what it has read, and is for one goroutine and the states of one disk.
type Judge struct {
	systems []System
	parts   Partitions
	size    int64
	script  [sha256.Size]byte // of the firmware partition
	known   map[print]content
}

// print names a content, and for roots the system whose it should be.
type print struct {
	area   Area
	of     uint64
	system int
}

// content is what is in an area.
type content struct {
	whole  bool
	system int // boot partitions: index of the system
	why    string
}

// NewJudge makes one for a disk, as it was at first, on which these systems may be.
func NewJudge(disk io.ReaderAt, size int64, systems []System) (*Judge, error) {
	parts, err := Layout(disk)
	if err != nil {
		return nil, err
	}
	j := &Judge{systems: systems, parts: parts, size: size, known: map[print]content{}}
	j.script, err = sum(disk, parts.Firmware)
	return j, err
}

// Verdict is what becomes of a gateway.
type Verdict struct {
	Brick string // why no system boots; empty: one does
	// Slot is what boots in the end, and Version what is in it.
	Slot    bootenv.Slot
	Version string
	// Refused are slots that the script tries before, in vain: dm-verity refuses their roots.
	Refused []bootenv.Slot
	// Torn are slots that are not whole, tried or not.
	Torn []bootenv.Slot
	// OneCopy says that one copy of the boot environment is damaged, NoCopy that both are and the defaults count.
	OneCopy, NoCopy bool
	// EnvLost says that both are although one was on the medium before: the gateway has forgotten which slot is the good one. A whole slot may boot by the defaults.
	EnvLost bool
}

// Look judges a state.
func (j *Judge) Look(s *cutlog.State) (v Verdict, err error) {
	if err := j.table(s); err != nil {
		v.Brick = err.Error()
		return v, nil
	}
	if c, err := j.look(s, j.parts.Firmware, 0, j.firmware); err != nil || !c.whole {
		v.Brick = c.why
		return v, err
	}
	e, cond := j.environment(s)
	v.NoCopy = cond.Lost()
	v.OneCopy = !v.NoCopy && (cond.Problems[0] != nil || cond.Problems[1] != nil)
	found := map[bootenv.Slot]slotContent{}
	for _, slot := range []bootenv.Slot{bootenv.A, bootenv.B} {
		c, err := j.slot(s, slot)
		if err != nil {
			return v, err
		}
		if found[slot] = c; !c.whole() {
			v.Torn = append(v.Torn, slot)
		}
	}
	j.boots(&v, e, found)
	return v, nil
}

func (j *Judge) environment(s *cutlog.State) (bootenv.Env, bootenv.Condition) {
	return bootenv.New([2]bootenv.Copy{envCopy{s, j.parts.Env[0]}, envCopy{s, j.parts.Env[1]}}, bootenv.Size).Read()
}

// slotContent is what is in the two partitions of a slot.
type slotContent struct {
	boot, root content
	version    string
}

func (c slotContent) whole() bool { return c.boot.whole && c.root.whole }

// boots follows the script from boot to boot until a system comes up.
func (j *Judge) boots(v *Verdict, e bootenv.Env, found map[bootenv.Slot]slotContent) {
	for range 2*bootenv.Tries + 2 { // all tries of both, and the last resort in turn
		var slot bootenv.Slot
		slot, e = e.Boot()
		c := found[slot]
		switch {
		case c.whole():
			v.Slot, v.Version = slot, c.version
			return
		case !c.boot.whole:
			// Nothing checks a kernel before it runs: it may hang, and nobody would restart the gateway.
			v.Brick = fmt.Sprintf("slot %s is booted, and %s", slot, c.boot.why)
			return
		}
		if !slices.Contains(v.Refused, slot) {
			v.Refused = append(v.Refused, slot)
		}
	}
	v.Brick = fmt.Sprintf("no slot that the script tries is whole: of slot A, %s; of slot B, %s", found[bootenv.A].root.why, found[bootenv.B].root.why)
}

// table wants the primary partition table or its backup, with the partitions that were there at first. The last one may have grown.
func (j *Judge) table(s *cutlog.State) error {
	l, err := Layout(s)
	if err != nil {
		if !backup(s, j.size) {
			return fmt.Errorf("%w; and its backup at the end of the disk is damaged, too", err)
		}
		return nil
	}
	l.Data.End = j.parts.Data.End
	if fmt.Sprint(l) != fmt.Sprint(j.parts) {
		return fmt.Errorf("the partitions are at %v, and were at %v", l, j.parts)
	}
	return nil
}

// backup says whether the header at the end of the disk and its entries are whole (UEFI 2.10, 5.3.2).
func backup(disk io.ReaderAt, size int64) bool {
	const entries, headerSize = 32 * gpt.Sector, 92
	b := make([]byte, entries+gpt.Sector)
	if _, err := disk.ReadAt(b, size-int64(len(b))); err != nil {
		return false
	}
	h := b[entries:][:headerSize]
	if string(h[:8]) != "EFI PART" {
		return false
	}
	want := binary.LittleEndian.Uint32(h[16:])
	plain := bytes.Clone(h)
	clear(plain[16:20])
	return crc32.ChecksumIEEE(plain) == want && crc32.ChecksumIEEE(b[:entries]) == binary.LittleEndian.Uint32(h[88:])
}

// look calls check for an area that is not known yet.
func (j *Judge) look(s *cutlog.State, a Area, system int, check func(io.ReaderAt, Area) (content, error)) (content, error) {
	key := print{a, s.Fingerprint(a.Start, a.End), system}
	if c, ok := j.known[key]; ok {
		return c, nil
	}
	c, err := check(s, a)
	if err == nil {
		j.known[key] = c
	}
	return c, err
}

func (j *Judge) firmware(disk io.ReaderAt, a Area) (content, error) {
	got, err := sum(disk, a)
	if got != j.script {
		return content{why: "the partition firmware, with the boot script, is not as it was"}, err
	}
	return content{whole: true}, err
}

func (j *Judge) slot(s *cutlog.State, slot bootenv.Slot) (c slotContent, err error) {
	if c.boot, err = j.look(s, j.parts.Boot[slot], 0, j.bootPartition); err != nil || !c.boot.whole {
		return c, err
	}
	system := j.systems[c.boot.system]
	c.version = system.Version
	c.root, err = j.look(s, j.parts.Root[slot], c.boot.system, func(disk io.ReaderAt, a Area) (content, error) {
		return rootPartition(io.NewSectionReader(disk, a.Start, a.Size()), system.rootHash)
	})
	return c, err
}

func (j *Judge) bootPartition(disk io.ReaderAt, a Area) (content, error) {
	for i, s := range j.systems {
		got, err := sum(disk, Area{a.Start, a.Start + s.bootSize})
		if err != nil {
			return content{}, err
		}
		if got == s.boot {
			return content{whole: true, system: i}, nil
		}
	}
	return content{why: "its kernel and initrd are of no whole system"}, nil
}

// rootPartition hashes all blocks of a root, as dm-verity does one by one, and holds them against the hash that its kernel is given, and the tree on the disk
// against the one that it has to be.
func rootPartition(disk *io.SectionReader, want []byte) (content, error) {
	head := make([]byte, verity.BlockSize)
	if _, err := disk.ReadAt(head, 0); err != nil {
		return content{}, err
	}
	torn := func(format string, args ...any) (content, error) {
		return content{why: "its root " + fmt.Sprintf(format, args...)}, nil
	}
	blocks, err := verity.Squashfs(head)
	if err != nil {
		return torn("has no file system: %v", err)
	}
	at := int64(blocks) * verity.BlockSize //nolint:gosec // Squashfs limits it
	if at+verity.BlockSize > disk.Size() {
		return torn("does not fit its partition")
	}
	if _, err := disk.ReadAt(head, at); err != nil {
		return content{}, err
	}
	super, err := verity.ParseSuperblock(head)
	if err != nil || super.Blocks != blocks {
		return torn("has no hash tree of its own: %v", err)
	}
	tree, got, err := verity.Tree(bufio.NewReaderSize(io.NewSectionReader(disk, 0, at), 1<<20), super)
	if err != nil {
		return content{}, err
	}
	if !bytes.Equal(got[:], want) {
		return torn("has the hash %x, and its kernel is told %x", got[:4], want[:4])
	}
	there := make([]byte, len(tree))
	if _, err := disk.ReadAt(there, at); err != nil && !errors.Is(err, io.EOF) {
		return content{}, err
	}
	if !bytes.Equal(there, tree) {
		return torn("has a damaged hash tree")
	}
	return content{whole: true}, nil
}

func sum(disk io.ReaderAt, a Area) (out [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.CopyBuffer(h, io.NewSectionReader(disk, a.Start, a.Size()), make([]byte, 1<<20))
	h.Sum(out[:0])
	return out, err
}

// envCopy is a copy of the boot environment on a state, to be read.
type envCopy struct {
	disk io.ReaderAt
	area Area
}

func (c envCopy) ReadAt(p []byte, off int64) (int, error) { return c.disk.ReadAt(p, c.area.Start+off) }
func (envCopy) WriteAt([]byte, int64) (int, error)        { return 0, errors.ErrUnsupported }
func (envCopy) Sync() error                               { return nil }
func (envCopy) Forget() error                             { return nil }
