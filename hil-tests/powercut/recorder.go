package powercut

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// kind of an operation.
type kind uint8

const (
	opWrite kind = iota
	opTruncate
	opSync // fsync and fdatasync
	opCreate
	opMkdir
	opRename
	opRemove
	opSyncDir
)

func (k kind) String() string {
	return [...]string{"write", "truncate", "sync", "create", "mkdir", "rename", "remove", "syncdir"}[k]
}

// op is one operation on the file system.
type op struct {
	kind     kind
	file     uint64 // of write, truncate, sync, create
	path, to string // of create, mkdir, rename, remove; of syncdir the folder; relative to the root, which is "."
	off      int64  // of write; the size of truncate
	data     []byte // of write
	begun    int    // of syncs: operations before this one are covered
}

func (o op) String() string {
	return fmt.Sprintf("%v %s%s file %d at %d, %d bytes", o.kind, o.path, o.to, o.file, o.off, len(o.data))
}

// recorder is a FUSE file system that passes everything on to a folder and records what changes it.
type recorder struct {
	backing string
	swallow func(path string, dir bool) bool // syncs that are not done, to see whether that is noticed; nil: none

	mu     sync.Mutex
	ops    []op
	files  map[uint64]uint64 // by inode number of the backing folder
	names  map[uint64]string // the name under which a file was made
	nextID uint64
}

// mount mounts a recorder of backing at dir.
func mount(dir, backing string, swallow func(path string, dir bool) bool) (*recorder, func() error, error) {
	r := &recorder{backing: backing, swallow: swallow, files: map[uint64]uint64{}, names: map[uint64]string{}}
	var st syscall.Stat_t
	if err := syscall.Lstat(backing, &st); err != nil {
		return nil, nil, err
	}
	server, err := fs.Mount(dir, &node{r: r}, &fs.Options{
		MountOptions: fuse.MountOptions{FsName: "skerry-powercut", Name: "powercut", DirectMountStrict: true, MaxWrite: 1 << 20, DisableXAttrs: true},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("mounting a FUSE file system (root and /dev/fuse are needed): %w", err)
	}
	return r, server.Unmount, nil
}

// length returns how many operations have been recorded.
func (r *recorder) length() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops)
}

func (r *recorder) add(o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// fileID names the file behind an inode number.
func (r *recorder) fileID(ino uint64, path string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.files[ino]
	if !ok {
		r.nextID++
		id = r.nextID
		r.files[ino], r.names[id] = id, filepath.Base(path)
	}
	return id
}

// node is a file or folder.
type node struct {
	fs.Inode
	r *recorder
}

func (n *node) rel(name string) string { return filepath.Join(n.Path(nil), name) }

func (n *node) abs(name string) string { return filepath.Join(n.r.backing, n.Path(nil), name) }

func (n *node) child(ctx context.Context, st *syscall.Stat_t) *fs.Inode {
	return n.NewInode(ctx, &node{r: n.r}, fs.StableAttr{Mode: st.Mode & syscall.S_IFMT, Ino: st.Ino})
}

// lengthFile is a file that is not there, but for its size: the number of operations so far.
const lengthFile = ".operations"

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if name == lengthFile {
		return n.NewInode(ctx, &counter{r: n.r}, fs.StableAttr{Mode: syscall.S_IFREG, Ino: 1 << 62}), 0
	}
	var st syscall.Stat_t
	if err := syscall.Lstat(n.abs(name), &st); err != nil {
		return nil, fs.ToErrno(err)
	}
	out.FromStat(&st)
	return n.child(ctx, &st), 0
}

// counter is the file of that name.
type counter struct {
	fs.Inode
	r *recorder
}

func (c *counter) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o400, uint64(c.r.length()) //nolint:gosec // not negative
	return 0
}

func (n *node) Getattr(_ context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	var err error
	if h, ok := f.(*handle); ok {
		err = syscall.Fstat(h.fd, &st)
	} else {
		err = syscall.Lstat(n.abs(""), &st)
	}
	out.FromStat(&st)
	return fs.ToErrno(err)
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		var st syscall.Stat_t
		var err error
		if h, ok := f.(*handle); ok {
			if err = syscall.Ftruncate(h.fd, int64(size)); err == nil {
				err = syscall.Fstat(h.fd, &st)
			}
		} else if err = syscall.Truncate(n.abs(""), int64(size)); err == nil {
			err = syscall.Lstat(n.abs(""), &st)
		}
		if err != nil {
			return fs.ToErrno(err)
		}
		n.r.add(op{kind: opTruncate, file: n.r.fileID(st.Ino, n.rel("")), off: int64(size)})
	}
	return n.Getattr(ctx, f, out)
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	fd, err := syscall.Open(n.abs(name), int(flags)&^syscall.O_APPEND|os.O_CREATE, mode)
	if err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, nil, 0, fs.ToErrno(err)
	}
	id := n.r.fileID(st.Ino, name)
	n.r.add(op{kind: opCreate, file: id, path: n.rel(name)})
	out.FromStat(&st)
	return n.child(ctx, &st), &handle{n.r, fd, id, n.rel(name)}, 0, 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	fd, err := syscall.Open(n.abs(""), int(flags)&^syscall.O_APPEND, 0)
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	id := n.r.fileID(st.Ino, n.rel(""))
	if flags&syscall.O_TRUNC != 0 {
		n.r.add(op{kind: opTruncate, file: id})
	}
	return &handle{n.r, fd, id, n.rel("")}, 0, 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	return fs.NewLoopbackDirStream(n.abs(""))
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if err := syscall.Mkdir(n.abs(name), mode); err != nil {
		return nil, fs.ToErrno(err)
	}
	n.r.add(op{kind: opMkdir, path: n.rel(name)})
	return n.Lookup(ctx, name, out)
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Lstat(n.abs(name), &st); err != nil {
		return fs.ToErrno(err)
	}
	if err := syscall.Unlink(n.abs(name)); err != nil {
		return fs.ToErrno(err)
	}
	n.r.add(op{kind: opRemove, path: n.rel(name)})
	n.r.mu.Lock()
	delete(n.r.files, st.Ino) // the number may be used again
	n.r.mu.Unlock()
	return 0
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, to string, _ uint32) syscall.Errno {
	p, ok := parent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	var st syscall.Stat_t
	replaced := syscall.Lstat(p.abs(to), &st) == nil
	if err := syscall.Rename(n.abs(name), p.abs(to)); err != nil {
		return fs.ToErrno(err)
	}
	n.r.add(op{kind: opRename, path: n.rel(name), to: p.rel(to)})
	if replaced {
		n.r.mu.Lock()
		delete(n.r.files, st.Ino)
		n.r.mu.Unlock()
	}
	return 0
}

// Fsync syncs a folder.
func (n *node) Fsync(_ context.Context, f fs.FileHandle, _ uint32) syscall.Errno {
	if h, ok := f.(*handle); ok {
		return h.sync()
	}
	path := n.rel("")
	if path == "" {
		path = "."
	}
	if n.r.swallow == nil || !n.r.swallow(path, true) {
		n.r.add(op{kind: opSyncDir, path: path, begun: n.r.length()})
	}
	return 0
}

// handle is an open file.
type handle struct {
	r    *recorder
	fd   int
	id   uint64
	path string
}

func (h *handle) Read(_ context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(uintptr(h.fd), off, len(buf)), 0
}

func (h *handle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := syscall.Pwrite(h.fd, data, off)
	if n > 0 {
		h.r.add(op{kind: opWrite, file: h.id, off: off, data: append([]byte(nil), data[:n]...)})
	}
	return uint32(max(n, 0)), fs.ToErrno(err) //nolint:gosec // not negative
}

func (h *handle) Fsync(context.Context, uint32) syscall.Errno { return h.sync() }

// sync only notes the sync: what is below does not lose power here.
func (h *handle) sync() syscall.Errno {
	if h.r.swallow == nil || !h.r.swallow(h.path, false) {
		h.r.add(op{kind: opSync, file: h.id, begun: h.r.length()})
	}
	return 0
}

func (h *handle) Flush(context.Context) syscall.Errno { return 0 }

func (h *handle) Release(context.Context) syscall.Errno { return fs.ToErrno(unix.Close(h.fd)) }

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.FileReader    = (*handle)(nil)
	_ fs.FileWriter    = (*handle)(nil)
	_ fs.FileFsyncer   = (*handle)(nil)
	_ fs.FileFlusher   = (*handle)(nil)
	_ fs.FileReleaser  = (*handle)(nil)
)
