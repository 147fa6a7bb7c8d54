package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Tree is a root in memory: paths without a leading slash, with the owners and modes that they have on the device. /bin, /sbin and /lib are links into /usr,
// as on every Debian since 2021; what packages still have there is moved.
type Tree struct {
	nodes map[string]*node
}

type node struct {
	kind     byte // of package tar
	mode     int64
	uid, gid int
	link     string
	body     []byte
}

// merged are the folders that are links into /usr.
func merged() []string { return []string{"bin", "sbin", "lib"} }

// NewTree returns a tree with the merged folders.
func NewTree() *Tree {
	t := &Tree{nodes: map[string]*node{}}
	for _, d := range merged() {
		t.nodes[d] = &node{kind: tar.TypeSymlink, mode: 0o777, link: "usr/" + d}
	}
	return t
}

// clean gives a path the form that it has in the tree.
func clean(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	for _, d := range merged() {
		if strings.HasPrefix(p, d+"/") {
			return "usr/" + p
		}
	}
	return p
}

func isMerged(p string) bool { return slices.Contains(merged(), p) }

// AddTar adds what keep wants of an archive; keep gets clean paths. An entry takes the place of one that is there; a folder keeps what is in it.
func (t *Tree) AddTar(r io.Reader, keep func(path string) bool) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p := clean(h.Name)
		if p == "" || isMerged(p) || !keep(p) {
			continue
		}
		n := &node{kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, link: h.Linkname}
		switch h.Typeflag {
		case tar.TypeReg:
			if n.body, err = io.ReadAll(tr); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		case tar.TypeLink:
			to, ok := t.nodes[clean(h.Linkname)]
			if !ok {
				return fmt.Errorf("%s is a hard link to %s, which is not there", p, h.Linkname)
			}
			n.kind, n.body, n.link = tar.TypeReg, to.body, ""
		case tar.TypeDir, tar.TypeSymlink:
		default:
			return fmt.Errorf("%s is of kind %q, which no package of an image has", p, h.Typeflag)
		}
		t.nodes[p] = n
	}
}

// File adds a file that belongs to root.
func (t *Tree) File(p string, mode int64, body []byte) {
	t.nodes[clean(p)] = &node{kind: tar.TypeReg, mode: mode, body: body}
}

// Link adds a symbolic link.
func (t *Tree) Link(p, to string) {
	t.nodes[clean(p)] = &node{kind: tar.TypeSymlink, mode: 0o777, link: to}
}

// Dir adds a folder that belongs to root.
func (t *Tree) Dir(p string, mode int64) { t.nodes[clean(p)] = &node{kind: tar.TypeDir, mode: mode} }

// Own changes the owner of what is there.
func (t *Tree) Own(p string, uid, gid int) {
	if n := t.nodes[clean(p)]; n != nil {
		n.uid, n.gid = uid, gid
	}
}

// Remove removes a path and all below it.
func (t *Tree) Remove(p string) {
	p = clean(p)
	maps.DeleteFunc(t.nodes, func(k string, _ *node) bool { return k == p || strings.HasPrefix(k, p+"/") })
}

// Read returns a file's content; links are not followed.
func (t *Tree) Read(p string) ([]byte, bool) {
	n := t.nodes[clean(p)]
	if n == nil || n.kind != tar.TypeReg {
		return nil, false
	}
	return n.body, true
}

// Has says whether something is at a path; the last link is not followed.
func (t *Tree) Has(p string) bool { return t.nodes[clean(p)] != nil }

// Paths are all paths in the order of their names.
func (t *Tree) Paths() []string { return slices.Sorted(maps.Keys(t.nodes)) }

// Bytes is the sum of all files.
func (t *Tree) Bytes() (sum int64) {
	for _, n := range t.nodes {
		sum += int64(len(n.body))
	}
	return sum
}

// WriteTar writes the tree in the order of names, folders that nobody added included, all with the same time. The file that changes most often goes last:
// in a squashfs what is behind a file that changed moves (docs/adr/0019-updates.md).
func (t *Tree) WriteTar(w io.Writer, epoch time.Time, last string) error {
	for p := range maps.Clone(t.nodes) {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			if t.nodes[d] == nil {
				t.Dir(d, 0o755)
			}
		}
	}
	tw := tar.NewWriter(w)
	order := t.Paths()
	if i := slices.Index(order, last); i >= 0 {
		order = append(slices.Delete(order, i, i+1), last)
	}
	for _, p := range order {
		n := t.nodes[p]
		h := &tar.Header{
			Typeflag: n.kind, Name: p, Linkname: n.link, Size: int64(len(n.body)), Mode: n.mode, Uid: n.uid, Gid: n.gid, ModTime: epoch, Format: tar.FormatGNU,
		}
		if n.kind == tar.TypeDir {
			h.Name += "/"
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if _, err := tw.Write(n.body); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return tw.Close()
}
