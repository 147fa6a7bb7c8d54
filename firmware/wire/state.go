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
	// Revisions holds, for the kinds of Put and Delete, a resourceVersion that a cache must have seen to know of these changes. The
	// holder keeps the maximum of what it has and what comes.
	Revisions map[Kind]uint64
}

// revisionKinds is the order of packed revisions, and in which kinds are counted (KindsKnown). It is part of the protocol: new kinds
// go at the end.
func revisionKinds() [knownKinds]Kind {
	return [...]Kind{KindNode, KindConfigMap, KindSecret, KindDeviceModel, KindPod, KindDevice,
		KindService, KindRuntimeClass, KindPersistentVolumeClaim, KindPersistentVolume}
}

const knownKinds = 10

// KindsAtFirst is how many kinds a peer knows that does not say.
const KindsAtFirst = 6

// KindsKnown is how many kinds this release knows, in the order of packed revisions: what Hello and Welcome say.
func KindsKnown() uint32 { return knownKinds }

// KnownTo reports whether a peer that knows so many kinds knows this one. Keys of kinds that it does not know must not be sent to it:
// it would take the frame for a malformed one.
func (k Kind) KnownTo(kinds uint32) bool {
	for i, kind := range revisionKinds() {
		if kind == k {
			return uint32(i) < max(kinds, KindsAtFirst) //nolint:gosec // ten kinds
		}
	}
	return false
}

// PackRevisions returns the wire form of revisions per kind: a number for each of nodes, configmaps, secrets, devicemodels, pods,
// devices, services, runtimeclasses, persistentvolumeclaims, persistentvolumes, zeros at the end left out.
func PackRevisions(revs map[Kind]uint64) []uint64 {
	kinds := revisionKinds()
	out := make([]uint64, len(kinds))
	n := 0
	for i, kind := range kinds {
		if out[i] = revs[kind]; out[i] != 0 {
			n = i + 1
		}
	}
	if n == 0 {
		return nil
	}
	return out[:n]
}

// UnpackRevisions reads what PackRevisions wrote; numbers of kinds that it does not know are left out.
func UnpackRevisions(packed []uint64) map[Kind]uint64 {
	if len(packed) == 0 {
		return nil
	}
	revs := make(map[Kind]uint64, len(packed))
	for i, kind := range revisionKinds() {
		if i < len(packed) && packed[i] != 0 {
			revs[kind] = packed[i]
		}
	}
	return revs
}

// KindOfEvent is the OutboxItem.Kind of a Kubernetes event.
const KindOfEvent = "event"

// shortSum is how many bytes of a bucket's sum an outline has.
const shortSum = 4

// Outline returns the digest's wire form: its Total, then 8 bytes, big endian, in which bit i says that bucket i is not empty, then
// the first 4 bytes of the sum of each such bucket in ascending order. An empty digest gives nil.
func (d *Digest) Outline() []byte {
	total := d.Total()
	if total == (Sum{}) {
		return nil
	}
	var set BucketSet
	out := make([]byte, len(total)+8, len(total)+8+len(d.Buckets)*shortSum)
	copy(out, total[:])
	for i := range d.Buckets {
		if d.Buckets[i] != (Sum{}) {
			set |= 1 << uint(i)
			out = append(out, d.Buckets[i][:shortSum]...)
		}
	}
	binary.BigEndian.PutUint64(out[len(total):], uint64(set))
	return out
}

// Total returns one sum for the whole digest: the first 16 bytes of the SHA-256 of, for each bucket that is not empty, its number
// (one byte) and its sum. It is zero if all buckets are empty.
func (d *Digest) Total() Sum {
	buf := make([]byte, 0, len(d.Buckets)*(1+len(Sum{})))
	for i := range d.Buckets {
		if d.Buckets[i] != (Sum{}) {
			buf = append(append(buf, byte(i)), d.Buckets[i][:]...)
		}
	}
	var total Sum
	if len(buf) > 0 {
		full := sha256.Sum256(buf)
		copy(total[:], full[:])
	}
	return total
}

// Outline is what a peer says about its Digest: enough to know that two are equal, and a good guess where they are not.
type Outline struct {
	Total   Sum
	set     BucketSet
	buckets [DigestBuckets][shortSum]byte
}

// ParseOutline reads what Digest.Outline wrote.
func ParseOutline(b []byte) (*Outline, error) {
	o := new(Outline)
	if len(b) == 0 {
		return o, nil
	}
	head := len(o.Total) + 8
	if len(b) < head {
		return nil, fmt.Errorf("digest of %d bytes: at least %d are needed", len(b), head)
	}
	copy(o.Total[:], b)
	o.set = BucketSet(binary.BigEndian.Uint64(b[len(o.Total):]))
	if b = b[head:]; len(b) != shortSum*o.set.Len() {
		return nil, fmt.Errorf("digest names %d buckets and carries %d bytes for them", o.set.Len(), len(b))
	}
	for i := range o.buckets {
		if o.set.Has(i) {
			b = b[copy(o.buckets[i][:], b):]
		}
	}
	return o, nil
}

// Differs returns the buckets in which d seems to differ from what the outline stands for: none exactly if the two are equal.
// Because an outline has only the beginning of each bucket's sum, a bucket that differs may be missing beside others, once in four
// billion times: compare the total again when these are settled.
func (o *Outline) Differs(d *Digest) BucketSet {
	if o.Total == d.Total() {
		return 0
	}
	var s BucketSet
	for i := range d.Buckets {
		if o.set.Has(i) != (d.Buckets[i] != Sum{}) || o.buckets[i] != [shortSum]byte(d.Buckets[i][:shortSum]) {
			s |= 1 << uint(i)
		}
	}
	if s == 0 {
		return ^s
	}
	return s
}

// OfferSum returns one sum for status documents: the exclusive or of their Entry sums, without a UID. Keys must be distinct.
func OfferSum(items []OfferItem) Sum {
	var s Sum
	for i := range items {
		one := Entry{Key: items[i].Key, Version: Version{Hash: items[i].Hash}}.Sum()
		for j := range s {
			s[j] ^= one[j]
		}
	}
	return s
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
