package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/board/verity"
)

// identifier derives a UUID from what it is for: images have no random bytes.
func identifier(parts ...string) (id [16]byte) {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	copy(id[:], h[:])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // RFC 9562, version 8
	return id
}

func uuid(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

// squashfs writes the root and appends its hash tree. It returns the root hash.
func squashfs(ctx context.Context, t *Tree, out string, epoch time.Time) (string, error) {
	if err := os.RemoveAll(out); err != nil {
		return "", err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(t.WriteTar(w, epoch, agentPath)) }()
	seconds := strconv.FormatInt(epoch.Unix(), 10)
	_, err := runWith(ctx, "", []string{"SOURCE_DATE_EPOCH=" + seconds}, r, "mksquashfs", "-", out, "-tar", "-quiet", "-no-progress", "-comp", "zstd",
		"-Xcompression-level", "12", "-b", "128K", "-no-xattrs")
	r.CloseWithError(err)
	if err != nil {
		return "", err
	}
	return appendTree(out)
}

// appendTree makes the file whole blocks and appends the dm-verity superblock and tree.
func appendTree(file string) (string, error) {
	sum, err := hashFile(file)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 96)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	blocks, err := verity.Squashfs(head)
	if err != nil {
		return "", err
	}
	if err := f.Truncate(int64(blocks * verity.BlockSize)); err != nil {
		return "", err
	}
	salt := sha256.Sum256([]byte("salt\x00" + sum))
	tree, root, err := verity.Tree(f, verity.Superblock{UUID: identifier("verity", sum), Blocks: blocks, Salt: salt[:]})
	if err != nil {
		return "", err
	}
	if _, err := f.WriteAt(tree, int64(blocks*verity.BlockSize)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", root), f.Close()
}

// checkVerity lets veritysetup confirm what appendTree has made.
func checkVerity(ctx context.Context, file, root string) error {
	head := make([]byte, 96)
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	blocks, err := verity.Squashfs(head)
	if err != nil {
		return err
	}
	_, err = run(ctx, "", "veritysetup", "verify", "--hash-offset", strconv.FormatUint(blocks*verity.BlockSize, 10), file, file, root)
	return err
}

// ext4 makes a file system of this size with these files in its root.
func ext4(ctx context.Context, out, label string, size int64, content map[string][]byte, epoch time.Time, work string) error {
	dir := filepath.Join(work, label)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var fix strings.Builder
	stamp := "@" + strconv.FormatInt(epoch.Unix(), 10)
	names := sortedKeys(content)
	for _, name := range names {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(at, content[name], 0o644), os.Chmod(at, 0o644)); err != nil { // whatever the umask is
			return err
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	// mke2fs takes over who owns the files here and when they were made; that must not be in an image.
	for _, name := range append([]string{"", "lost+found"}, names...) {
		for _, field := range []string{"atime", "ctime", "mtime", "crtime"} {
			fmt.Fprintf(&fix, "sif /%s %s %s\n", name, field, stamp)
		}
		for _, field := range []string{"uid", "gid", "atime_extra", "ctime_extra", "mtime_extra", "crtime_extra", "generation"} {
			fmt.Fprintf(&fix, "sif /%s %s 0\n", name, field)
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	id := uuid(identifier("ext4", label))
	env := []string{"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(epoch.Unix(), 10), "SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10)}
	if _, err := runWith(ctx, "", env, nil, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^64bit,^resize_inode,^orphan_file", "-b", "4096", "-m", "0", "-L", label, "-U", id,
		"-E", "hash_seed="+id+",root_owner=0:0,nodiscard", "-d", dir, out, strconv.FormatInt(size/4096, 10)); err != nil {
		return err
	}
	list := filepath.Join(work, label+".debugfs")
	if err := os.WriteFile(list, []byte(fix.String()), 0o644); err != nil {
		return err
	}
	_, err := runWith(ctx, "", env, nil, "debugfs", "-w", "-f", list, out)
	return err
}

// vfat makes the provisioning partition.
func vfat(ctx context.Context, out, label string, size int64, content map[string][]byte, epoch time.Time, work string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	env := []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10), "MTOOLS_SKIP_CHECK=1"}
	id := identifier("vfat", label)
	if _, err := runWith(ctx, "", env, nil, "mkfs.vfat", "--invariant", "-i", fmt.Sprintf("%x", id[:4]), "-n", strings.ToUpper(label), out); err != nil {
		return err
	}
	for _, name := range sortedKeys(content) {
		at := filepath.Join(work, name)
		if err := os.WriteFile(at, content[name], 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(at, epoch, epoch); err != nil {
			return err
		}
		if _, err := runWith(ctx, "", env, nil, "mcopy", "-m", "-i", out, at, "::"+name); err != nil {
			return err
		}
	}
	return nil
}
