package rauc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/verity"
)

// VerifySlot makes what was written to a slot durable, reads it back from the medium, and returns nil only if the root is the one whose hash the slot's kernel will be
// given: each block of it, and of its hash tree. root and boot are the slot's partitions, or their images.
func VerifySlot(root, boot string) error {
	want, err := rootHash(boot)
	if err != nil {
		return fmt.Errorf("read back %s: %w", boot, err)
	}
	if err := verifyRoot(root, want); err != nil {
		return fmt.Errorf("read back %s: %w", root, err)
	}
	return nil
}

// SlotPaths are the partitions of a slot.
func SlotPaths(s *board.Storage, slot bootenv.Slot) (root, boot string, err error) {
	for _, x := range s.Slots {
		if x.Name == string(slot) {
			return byLabel(x.Root), byLabel(x.Boot), nil
		}
	}
	return "", "", fmt.Errorf("the board has no slot %s", slot)
}

// fromMedium opens a partition so that what is read is on the medium.
func fromMedium(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil { //nolint:gosec // a descriptor fits
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

const hashName = "skerry.roothash="

// rootHash finds the hash that boot.cmdline names, wherever in the partition that is: no file system has to be mounted for it.
func rootHash(boot string) ([]byte, error) {
	f, err := fromMedium(boot)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	const step, digits = 1 << 20, 64
	buf := make([]byte, 0, step+len(hashName)+digits)
	for {
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.Index(buf, []byte(hashName)); i >= 0 && len(buf) >= i+len(hashName)+digits {
			return hex.DecodeString(string(buf[i+len(hashName):][:digits]))
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, errors.New("it names no root: there is no " + hashName + " in it")
		case err != nil:
			return nil, err
		}
		if keep := len(hashName) + digits; len(buf) > keep { // it may begin at the end of what was read
			buf = buf[:copy(buf, buf[len(buf)-keep:])]
		}
	}
}

func verifyRoot(root string, want []byte) error {
	f, err := fromMedium(root)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	return verify(f, want)
}

// ErrRotten is wrapped by errors of CheckRoot: the root is no longer what was written to the slot.
var ErrRotten = errors.New("the root is no longer what it was")

// CheckRoot reads the root of the slot that runs, whole and slowly, and holds it against the hash that the kernel was given. An error that wraps ErrRotten says that dm-verity
// will restart the machine as soon as somebody reads what is wrong; another one, that nothing is known.
func CheckRoot(ctx context.Context, root, cmdline string) error {
	var want []byte
	for _, word := range strings.Fields(cmdline) {
		if text, ok := strings.CutPrefix(word, hashName); ok {
			b, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("skerry.roothash of the kernel's command line: %w", err)
			}
			want = b
		}
	}
	if want == nil {
		return errors.New("the kernel was booted without " + hashName + ": the root cannot be checked")
	}
	f, err := os.Open(filepath.Clean(root))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	err = verify(&slowly{ctx: ctx, f: f}, want)
	switch {
	case err == nil || ctx.Err() != nil:
		return errors.Join(err, ctx.Err())
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrRotten, root, err)
}

// slowly reads a partition so that the machine has time for its work: about 16 MB a second, and without filling its memory with what is read once.
type slowly struct {
	ctx context.Context
	f   *os.File
	sum int
}

const (
	pauseEvery = 1 << 20
	pauseFor   = 60 * time.Millisecond
)

// ReadAt implements io.ReaderAt.
func (s *slowly) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.f.ReadAt(p, off)
	if s.sum += n; s.sum >= pauseEvery {
		s.sum = 0
		_ = unix.Fadvise(int(s.f.Fd()), 0, off+int64(n), unix.FADV_DONTNEED) //nolint:gosec // a descriptor fits; memory is saved, and no more
		select {
		case <-s.ctx.Done():
		case <-time.After(pauseFor):
		}
	}
	if stopped := s.ctx.Err(); stopped != nil {
		return 0, stopped
	}
	return n, err
}

func verify(f io.ReaderAt, want []byte) error {
	head := make([]byte, verity.BlockSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	blocks, err := verity.Squashfs(head)
	if err != nil {
		return err
	}
	at := int64(blocks) * verity.BlockSize //nolint:gosec // Squashfs limits it
	if _, err := f.ReadAt(head, at); err != nil {
		return fmt.Errorf("the hash tree: %w", err)
	}
	super, err := verity.ParseSuperblock(head)
	if err != nil {
		return err
	}
	if super.Blocks != blocks {
		return fmt.Errorf("the hash tree is for %d blocks, and the squashfs has %d", super.Blocks, blocks)
	}
	tree, got, err := verity.Tree(bufio.NewReaderSize(io.NewSectionReader(f, 0, at), 1<<20), super)
	if err != nil {
		return err
	}
	if !bytes.Equal(got[:], want) {
		return fmt.Errorf("the root has the hash %x, and the kernel will be told %x", got, want)
	}
	there := make([]byte, len(tree))
	if _, err := f.ReadAt(there, at); err != nil {
		return fmt.Errorf("the hash tree: %w", err)
	}
	if !bytes.Equal(there, tree) {
		return errors.New("the hash tree is damaged")
	}
	return nil
}
