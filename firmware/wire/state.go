package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Rules is the version of the relay's trim rules: which fields of a Kubernetes object travel. It changes when the
// canonical body of an unchanged object would change.
type Rules uint32

// Entry says that somebody holds key at version. An absent reference is held at AbsentVersion.
type Entry struct {
	Key     Key
	Version Version
}

// BodyVersion returns the version of an object with the given UID and canonical body.
func BodyVersion(uid string, body []byte) Version {
	sum := sha256.Sum256(body)
	v := Version{UID: uid}
	copy(v.Hash[:], sum[:])
	return v
}

// AbsentVersion returns the version under which a missing reference is held: no UID and the hash of an empty body.
// No object has it, because a canonical body is never empty.
func AbsentVersion() Version { return BodyVersion("", nil) }

// Commit is one atomic change of an agent's desired state: either all of it is applied, or none.
type Commit struct {
	ID    uint64 // counts up from 1 within a session
	Rules Rules  // trim rules that made the bodies
	// Put replaces or adds objects, references before what refers to them. Delete removes keys; an unknown key is no error.
	Put    []Object
	Delete []Key
	// Revisions holds, per kind, the highest resourceVersion that the relay's cache had seen. The holder keeps the
	// maximum of what it has and what comes.
	Revisions map[Kind]uint64
}

// KindOfEvent is the OutboxItem.Kind of a Kubernetes event.
const KindOfEvent = "event"

// Pack returns the digest's wire form: 8 bytes, big endian, in which bit i says that bucket i is not empty, followed by the
// 16 bytes of each such bucket in ascending order. An empty digest packs to nil.
func (d *Digest) Pack() []byte {
	var set BucketSet
	out := make([]byte, 8, 8+len(d.Buckets)*16)
	for i := range d.Buckets {
		if d.Buckets[i] != (Sum{}) {
			set |= 1 << uint(i)
			out = append(out, d.Buckets[i][:]...)
		}
	}
	if set == 0 {
		return nil
	}
	binary.BigEndian.PutUint64(out, uint64(set))
	return out
}

// UnpackDigest reads what Pack wrote.
func UnpackDigest(rules Rules, b []byte) (Digest, error) {
	d := Digest{Rules: rules}
	if len(b) == 0 {
		return d, nil
	}
	if len(b) < 8 {
		return Digest{}, fmt.Errorf("digest of %d bytes: at least 8 are needed", len(b))
	}
	set := BucketSet(binary.BigEndian.Uint64(b))
	if b = b[8:]; len(b) != 16*set.Len() {
		return Digest{}, fmt.Errorf("digest names %d buckets and carries %d bytes for them", set.Len(), len(b))
	}
	for i := range d.Buckets {
		if set.Has(i) {
			b = b[copy(d.Buckets[i][:], b):]
		}
	}
	return d, nil
}

// DigestBuckets is the number of buckets of a Digest.
const DigestBuckets = 64

// Sum is the content of one digest bucket: the exclusive or of the hashes of its entries, zero when it is empty.
type Sum [16]byte

// Digest summarises a set of entries, so that two parties can find out cheaply where they differ. The zero value is the
// digest of the empty set. It is not safe for concurrent use.
type Digest struct {
	Rules   Rules
	Buckets [DigestBuckets]Sum
}

// Bucket returns the index of the digest bucket that the key belongs to: the first byte of the SHA-256 of the key,
// modulo DigestBuckets.
func (k Key) Bucket() int {
	sum := sha256.Sum256([]byte(k))
	return int(sum[0]) % DigestBuckets
}

// Sum returns the entry's contribution to its bucket: the first 16 bytes of
// SHA-256(uint32 length of key, big endian · key · uint32 length of UID · UID · Hash).
func (e Entry) Sum() Sum {
	buf := make([]byte, 0, 8+len(e.Key)+len(e.Version.UID)+len(e.Version.Hash))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(e.Key)))
	buf = append(buf, e.Key...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(e.Version.UID)))
	buf = append(buf, e.Version.UID...)
	buf = append(buf, e.Version.Hash[:]...)
	full := sha256.Sum256(buf)
	var s Sum
	copy(s[:], full[:])
	return s
}

// Toggle adds the entry if the digest's set does not hold it, and removes it if it does. The caller knows which.
func (d *Digest) Toggle(e Entry) {
	s := e.Sum()
	b := &d.Buckets[e.Key.Bucket()]
	for i := range b {
		b[i] ^= s[i]
	}
}

// DigestOf returns the digest of entries, which must have distinct keys.
func DigestOf(rules Rules, entries []Entry) Digest {
	d := Digest{Rules: rules}
	for _, e := range entries {
		d.Toggle(e)
	}
	return d
}

// BucketSet is a set of bucket indexes: bit i stands for bucket i.
type BucketSet uint64

// Has reports whether bucket i is in the set.
func (s BucketSet) Has(i int) bool { return s&(1<<uint(i)) != 0 }

// Len returns the number of buckets in the set.
func (s BucketSet) Len() int { return bits.OnesCount64(uint64(s)) }

// Differs returns the buckets in which the two digests differ. Rules are not compared: bodies made by other rules have
// other hashes if it matters.
func (d *Digest) Differs(o *Digest) BucketSet {
	var s BucketSet
	for i := range d.Buckets {
		if d.Buckets[i] != o.Buckets[i] {
			s |= 1 << uint(i)
		}
	}
	return s
}
