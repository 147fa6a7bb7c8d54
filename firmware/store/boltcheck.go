package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// This file reads a bbolt file with bounded reads and no mapping, so that no damage can fault or panic. It checks all that bbolt relies on when it opens and walks a
// file (bbolt's own Check runs on the mapped file, and on opening bbolt panics in a goroutine of its own, beyond any recover). The layout is
// that of go.etcd.io/bbolt/internal/common (meta.go, page.go, bucket.go), unchanged since file format version 2: fields of
// fixed size in the byte order of the machine.
const (
	boltMagic       = 0xED0CDAED
	boltVersion     = 2
	boltPageHeader  = 16
	boltMetaSize    = 64
	boltElem        = 16 // both kinds
	boltBranch      = 0x01
	boltLeaf        = 0x02
	boltMetaPage    = 0x04
	boltFreelist    = 0x10
	boltNoFreelist  = ^uint64(0)
	boltBucketFlag  = 0x01
	boltBucketHead  = 16
	boltMaxDepth    = 64
	boltMaxRun      = 32 << 20 // longest run of overflow pages; the largest value is MaxValue
	boltMinPageSize = 512
	boltMaxPageSize = 64 << 10
)

var nativeOrder = binary.NativeEndian

type boltMeta struct {
	pageSize             uint32
	root, freelist, high uint64
	txid                 uint64
}

// boltWalk visits all records of a bbolt file whose buckets are not nested.
type boltWalk struct {
	r      io.ReaderAt
	size   int64
	meta   boltMeta
	used   []uint64                               // bit set of pages seen
	damage []string                               // the first few
	bad    int                                    // number of damages
	visit  func(bucket string, key, value []byte) // slices are valid during the call only
}

// errBoltUnreadable says that nothing of a file can be used.
var errBoltUnreadable = errors.New("no meta page is whole")

// walkBolt walks the file. The error is errBoltUnreadable or nil; damage elsewhere is in the result.
func walkBolt(r io.ReaderAt, size int64, visit func(bucket string, key, value []byte)) (*boltWalk, error) {
	w := &boltWalk{r: r, size: size, visit: visit}
	if err := w.readMeta(); err != nil {
		return w, err
	}
	w.used = make([]uint64, (w.meta.high+63)/64)
	w.markRun(0, 1)
	if w.meta.freelist != boltNoFreelist {
		// NoFreelistSync is set, and a file without one complete transaction never gets the name state.db.
		w.fault("the file has a free list, it was not written by this agent")
	}
	w.page(w.meta.root, bounds{}, 0, "")
	return w, nil
}

func (w *boltWalk) fault(format string, args ...any) {
	w.bad++
	if len(w.damage) < 4 {
		w.damage = append(w.damage, fmt.Sprintf(format, args...))
	}
}

// readMeta finds the newest whole meta page. bbolt accepts one whole meta page of two; it takes the page size from the first, or by trying sizes.
func (w *boltWalk) readMeta() error {
	var best boltMeta
	var found bool
	buf := make([]byte, boltPageHeader+boltMetaSize)
	for off := int64(0); off <= boltMaxPageSize && off+int64(len(buf)) <= w.size; {
		if _, err := w.r.ReadAt(buf, off); err == nil {
			if m, ok := parseBoltMeta(buf); ok && (off == 0 || off == int64(m.pageSize)) && (!found || m.txid > best.txid) {
				best, found = m, true
			}
		}
		if off == 0 {
			off = boltMinPageSize
		} else {
			off *= 2
		}
	}
	if !found {
		return errBoltUnreadable
	}
	w.meta = best
	// Both pages must be whole to be trusted: the other one is what a failed write falls back to.
	for i := range int64(2) {
		_, err := w.r.ReadAt(buf, i*int64(best.pageSize))
		if m, ok := parseBoltMeta(buf); err != nil || !ok || m.pageSize != best.pageSize {
			w.fault("meta page %d is damaged", i)
		}
	}
	if pages := uint64(w.size) / uint64(best.pageSize); best.high > pages {
		w.fault("the file has %d pages of %d", pages, best.high)
		// Pages beyond the end cannot be read; page() finds them.
		w.meta.high = min(best.high, pages)
	}
	return nil
}

func parseBoltMeta(b []byte) (m boltMeta, ok bool) {
	flags := nativeOrder.Uint16(b[8:])
	b = b[boltPageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(b[:56])
	m = boltMeta{
		pageSize: nativeOrder.Uint32(b[8:]), root: nativeOrder.Uint64(b[16:]),
		freelist: nativeOrder.Uint64(b[32:]), high: nativeOrder.Uint64(b[40:]), txid: nativeOrder.Uint64(b[48:]),
	}
	ok = flags == boltMetaPage && nativeOrder.Uint32(b) == boltMagic && nativeOrder.Uint32(b[4:]) == boltVersion && h.Sum64() == nativeOrder.Uint64(b[56:]) &&
		m.pageSize >= boltMinPageSize && m.pageSize <= boltMaxPageSize && m.pageSize&(m.pageSize-1) == 0 && m.high >= 2
	return m, ok
}

// markRun notes n pages as used and reports whether none of them was, and all exist.
func (w *boltWalk) markRun(id, n uint64) bool {
	if id >= w.meta.high || n > w.meta.high-id {
		return false
	}
	free := true
	for p := id; p < id+n; p++ {
		if w.used[p/64]&(1<<(p%64)) != 0 {
			free = false
		}
		w.used[p/64] |= 1 << (p % 64)
	}
	return free
}

// bounds are the keys between which a page's keys must lie: min ≤ key < max. nil: open.
type bounds struct{ min, max []byte }

// page walks the page id of a bucket; bucket "" is the root.
func (w *boltWalk) page(id uint64, in bounds, depth int, bucket string) {
	if depth > boltMaxDepth {
		w.fault("page %d: the tree is too deep", id)
		return
	}
	b, ok := w.readPage(id)
	if !ok {
		return
	}
	w.elements(b, id, in, depth, bucket)
}

// readPage reads a page and its overflow pages, and notes them as used.
func (w *boltWalk) readPage(id uint64) ([]byte, bool) {
	if id < 2 || id >= w.meta.high {
		w.fault("page %d is beyond the end or a meta page", id)
		return nil, false
	}
	ps := int64(w.meta.pageSize)
	hdr := make([]byte, boltPageHeader)
	if _, err := w.r.ReadAt(hdr, int64(id)*ps); err != nil {
		w.fault("page %d: %v", id, err)
		return nil, false
	}
	run := uint64(nativeOrder.Uint32(hdr[12:])) + 1
	switch {
	case nativeOrder.Uint64(hdr) != id:
		w.fault("page %d says it is page %d", id, nativeOrder.Uint64(hdr))
		return nil, false
	case run > boltMaxRun/uint64(ps) || !w.markRun(id, run):
		w.fault("page %d: its %d pages are beyond the end, too many, or used twice", id, run)
		return nil, false
	}
	b := make([]byte, int64(run)*ps)
	if _, err := w.r.ReadAt(b, int64(id)*ps); err != nil {
		w.fault("page %d: %v", id, err)
		return nil, false
	}
	return b, true
}

// elements checks a page's elements, and visits or descends into each sound one.
func (w *boltWalk) elements(b []byte, id uint64, in bounds, depth int, bucket string) {
	flags, count := nativeOrder.Uint16(b[8:]), int(nativeOrder.Uint16(b[10:]))
	if flags != boltBranch && flags != boltLeaf {
		w.fault("page %d: unexpected type %#x", id, flags)
		return
	}
	if boltPageHeader+count*boltElem > len(b) || (flags == boltBranch && count == 0) {
		w.fault("page %d: impossible number of elements %d", id, count)
		return
	}
	if in.min != nil {
		// bbolt finds a page in its parent by the page's first key when it writes it back; if they differed, it would add the page twice.
		if first, _, ok := element(b, boltPageHeader, flags); count == 0 || !ok || !bytes.Equal(first, in.min) {
			w.fault("page %d does not begin with the key that leads to it", id)
		}
	}
	var prev []byte
	for i := range count {
		at := boltPageHeader + i*boltElem
		key, value, ok := element(b, at, flags)
		if !ok || (i > 0 && bytes.Compare(prev, key) >= 0) || (in.min != nil && bytes.Compare(key, in.min) < 0) || (in.max != nil && bytes.Compare(key, in.max) >= 0) {
			w.fault("page %d: element %d has an impossible place or key", id, i)
			continue
		}
		prev = key
		if flags == boltLeaf {
			w.leaf(nativeOrder.Uint32(b[at:]), id, key, value, depth, bucket)
			continue
		}
		child := bounds{min: key, max: in.max}
		if i+1 < count {
			if next, _, ok := element(b, at+boltElem, flags); ok {
				child.max = next
			}
		}
		w.page(nativeOrder.Uint64(b[at+8:]), child, depth+1, bucket)
	}
}

// element returns the key and value of the element at offset at of page b.
func element(b []byte, at int, flags uint16) (key, value []byte, ok bool) {
	var pos, ksize, vsize uint32
	if flags == boltBranch {
		pos, ksize = nativeOrder.Uint32(b[at:]), nativeOrder.Uint32(b[at+4:])
	} else {
		pos, ksize, vsize = nativeOrder.Uint32(b[at+4:]), nativeOrder.Uint32(b[at+8:]), nativeOrder.Uint32(b[at+12:])
	}
	from := int64(at) + int64(pos)
	mid := from + int64(ksize)
	to := mid + int64(vsize)
	count := int(nativeOrder.Uint16(b[10:]))
	if to > int64(len(b)) || from < int64(boltPageHeader+count*boltElem) || (ksize == 0 && flags == boltLeaf) {
		return nil, nil, false
	}
	return b[from:mid], b[mid:to], true
}

// leaf handles one element of a leaf page: a bucket in the root, a record in a bucket.
func (w *boltWalk) leaf(flags uint32, id uint64, key, value []byte, depth int, bucket string) {
	if bucket != "" {
		if flags != 0 {
			w.fault("page %d: a record has flags %#x", id, flags)
			return
		}
		w.visit(bucket, key, value)
		return
	}
	if flags != boltBucketFlag || len(value) < boltBucketHead {
		w.fault("page %d: the root has something else than buckets", id)
		return
	}
	if root := nativeOrder.Uint64(value); root != 0 {
		w.page(root, bounds{}, depth+1, string(key))
		return
	}
	inline := value[boltBucketHead:]
	if len(inline) < boltPageHeader || nativeOrder.Uint16(inline[8:]) != boltLeaf {
		w.fault("page %d: the bucket in it is damaged", id)
		return
	}
	w.elements(inline, id, bounds{}, depth+1, string(key))
}
