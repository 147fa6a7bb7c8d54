package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Limits of what a file may make us hold.
const (
	maxEntries  = 100_000
	maxDocument = 2 << 20 // bytes of one JSON document; decoded it may take 40 times as much
	maxLinks    = 8       // symbolic links in a row
	maxImages   = 200     // names that one file may give
)

// Archive is the content of a tar file. Make it with Open.
type Archive struct {
	from    io.ReaderAt
	entries map[string]entry
}

type entry struct {
	offset, size int64
	link         string // of a symbolic or hard link: the path of its target in the archive
}

// ErrCompressed says that a file is a compressed tar: decompress it first.
var ErrCompressed = errors.New("the file is compressed")

// Open reads the headers of a tar file of size bytes. The file must stay open while the Archive is used.
func Open(from io.ReaderAt, size int64) (*Archive, error) {
	a := &Archive{from: from, entries: map[string]entry{}}
	var magic [6]byte
	if _, err := from.ReadAt(magic[:], 0); err == nil && compression(magic[:]) != "" {
		return nil, ErrCompressed
	}
	section := io.NewSectionReader(from, 0, size)
	r := tar.NewReader(section)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("this is no whole tar file: %w", err)
		}
		if n >= maxEntries {
			return nil, fmt.Errorf("the tar file has more than %d entries", maxEntries)
		}
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := inside(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if at+h.Size > size {
				return nil, fmt.Errorf("the tar file ends within %s: %w", name, io.ErrUnexpectedEOF)
			}
			for k := range h.PAXRecords {
				if strings.HasPrefix(k, "GNU.sparse") {
					return nil, fmt.Errorf("%s is sparse: make the tar file without --sparse", name)
				}
			}
			a.entries[name] = entry{offset: at, size: h.Size}
		case tar.TypeSymlink:
			a.entries[name] = entry{link: inside(path.Join(path.Dir(name), h.Linkname))}
		case tar.TypeLink:
			a.entries[name] = entry{link: inside(h.Linkname)}
		}
	}
	return a, nil
}

// inside makes a path of the archive unambiguous; what leads out of it ends at its root.
func inside(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// find follows links to an entry with content.
func (a *Archive) find(name string) (entry, bool) {
	name = inside(name)
	for range maxLinks {
		e, ok := a.entries[name]
		if !ok || e.link == "" {
			return e, ok
		}
		name = e.link
	}
	return entry{}, false
}

// open returns the content of an entry.
func (a *Archive) open(name string) (*io.SectionReader, error) {
	e, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("the file lacks %s", name)
	}
	return io.NewSectionReader(a.from, e.offset, e.size), nil
}

// document reads a JSON document.
func (a *Archive) document(name string, into any) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxDocument {
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", name, r.Size(), maxDocument)
	}
	b := make([]byte, r.Size())
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return nil, fmt.Errorf("%s is no valid JSON: %w", name, err)
	}
	return b, nil
}

// has reports whether the archive has an entry with content.
func (a *Archive) has(name string) bool { _, ok := a.find(name); return ok }

// compression names the compression of data that begins with magic; empty: none that is known.
func compression(magic []byte) string {
	for _, c := range []struct{ magic, name string }{
		{"\x1f\x8b", "gzip"}, {"\x28\xb5\x2f\xfd", "zstd"}, {"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"},
	} {
		if bytes.HasPrefix(magic, []byte(c.magic)) {
			return c.name
		}
	}
	return ""
}
