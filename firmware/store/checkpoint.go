package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	dbName  = "state.db"
	newName = "state.db.new" // a rebuilt checkpoint on its way to become state.db

	infoBucket = "skerry"
	infoKey    = "checkpoint" // sealed: last sequence[8] epoch[8] and the tally of all records[24]
	infoKeyID  = "key"
)

// infoRec is the key to which the checkpoint's own record is bound. Space 0 is nobody's.
var infoRec = recKey{space: 0, key: infoKey}

// openBolt opens a checkpoint file that has been checked, or makes a new one.
func (s *Store) openBolt(path string) (db *bolt.DB, err error) {
	err = guard(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: time.Second,
			// The free list is derived at Open, from the same walk that finds damage; writing it would cost a page or more per checkpoint.
			NoFreelistSync: true,
			FreelistType:   bolt.FreelistMapType,
			// The default of the machine may be 64 KiB on arm64: too coarse for flash.
			PageSize:     4096,
			NoStatistics: true,
			NoSync:       s.opt.noSync,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store: opening the checkpoint %s: %w", path, err)
	}
	// bbolt grows its file by 16 MiB at a time, which a small data partition may not have.
	db.AllocSize = 256 << 10
	return db, nil
}

// Checkpoint moves the log to bbolt and removes the segments that are then superfluous. Run does so by itself.
func (s *Store) Checkpoint() error {
	s.ckpt <- struct{}{}
	defer func() { <-s.ckpt }()
	s.takeLead()
	todo := s.freeze()
	s.dropLead()
	if !todo {
		return nil
	}
	err := s.writeCheckpoint()
	s.mu.Lock()
	s.ckptErr = err
	s.mu.Unlock()
	if err != nil {
		s.count.failures.Add(1)
		return err
	}
	s.takeLead()
	defer s.dropLead()
	return s.thaw()
}

// freeze sets the present overlay and log apart for the checkpoint. The caller holds ckpt and lead.
func (s *Store) freeze() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.frozen != nil { // the last checkpoint failed
		return true
	}
	s.wal.retire()
	if len(s.active) == 0 && len(s.wal.closed) == 0 {
		return false
	}
	s.frozen, s.active = s.active, map[recKey]rec{}
	s.frozenSeq = s.seq
	s.frozenSeg = s.wal.nextID - 1
	return true
}

func (s *Store) writeCheckpoint() error {
	s.mu.RLock()
	db := s.db
	s.mu.RUnlock()
	var n int64
	var err error
	switch {
	case db != nil:
		n, err = s.fill(db, s.frozen, s.frozenSeq)
	default: // the first one, or in the place of a damaged one
		if db, n, _, err = s.makeBolt(s.frozen, s.frozenSeq); err == nil {
			s.mu.Lock()
			s.db = db
			s.mu.Unlock()
		}
	}
	if err != nil {
		return diskError("writing the checkpoint", s.opt.Dir, err)
	}
	s.replaceDB = false
	s.count.ckptBytes.Add(n)
	s.count.fsyncs.Add(2) // bbolt syncs its data pages, then its meta page
	s.count.checkpoints.Add(1)
	return nil
}

// makeBolt makes a checkpoint of recs, and sets aside what is in its place, which is damaged. The new file takes its name only when it is
// complete and synced, so that state.db is never seen half made.
func (s *Store) makeBolt(recs map[recKey]rec, seq uint64) (db *bolt.DB, written int64, aside string, err error) {
	path, fresh := filepath.Join(s.opt.Dir, dbName), filepath.Join(s.opt.Dir, newName)
	defer func() {
		if err != nil && db != nil {
			_ = db.Close()
			db = nil
		}
	}()
	if err := s.opt.fs.remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, "", err
	}
	if db, err = s.openBolt(fresh); err != nil {
		_ = s.opt.fs.remove(fresh)
		return nil, 0, "", err
	}
	s.tally = tally{}
	if written, err = s.fill(db, recs, seq); err != nil {
		_ = s.opt.fs.remove(fresh)
		return db, 0, "", err
	}
	// There is none before the first checkpoint, or when an earlier attempt ended here.
	if aside, err = setAside(s.opt.fs, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return db, 0, "", err
	}
	if err = s.opt.fs.rename(fresh, path); err != nil {
		return db, 0, "", err
	}
	return db, written, aside, s.opt.fs.syncDir(s.opt.Dir)
}

// fill puts recs and the checkpoint's own record into db in one transaction, and returns the bytes that it wrote.
func (s *Store) fill(db *bolt.DB, recs map[recKey]rec, seq uint64) (written int64, err error) {
	tally := s.tally
	// Sorted, so that bbolt fills its pages one after the other.
	keys := slices.SortedFunc(maps.Keys(recs), func(a, b recKey) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.key, b.key))
	})
	err = guard(func() error {
		return db.Update(func(tx *bolt.Tx) error {
			tx.OnCommit(func() {
				st := tx.Stats()
				written = st.GetPageAlloc() + int64(db.Info().PageSize)
			})
			b, err := tx.CreateBucketIfNotExists([]byte(infoBucket))
			if err != nil {
				return err
			}
			for _, k := range keys {
				if err := putRec(tx, k, recs[k], &tally); err != nil {
					return err
				}
			}
			info, err := s.sealInfo(seq, tally)
			if err != nil {
				return err
			}
			keyID := s.opt.Sealer.KeyID()
			return errors.Join(b.Put([]byte(infoKey), info), b.Put([]byte(infoKeyID), keyID[:]))
		})
	})
	if err == nil {
		s.tally = tally
	}
	return written, err
}

func putRec(tx *bolt.Tx, k recKey, r rec, t *tally) error {
	b, err := tx.CreateBucketIfNotExists([]byte(k.space.String()))
	if err != nil {
		return err
	}
	if old := b.Get([]byte(k.key)); old != nil {
		t.remove(k, old)
	}
	if !r.del {
		t.add(k, joinStored(r))
	}
	if r.del {
		return b.Delete([]byte(k.key))
	}
	return b.Put([]byte(k.key), joinStored(r))
}

// thaw forgets the frozen overlay, which the checkpoint now holds, and the segments that it came from. The caller holds ckpt and lead.
func (s *Store) thaw() error {
	s.mu.Lock()
	for k, r := range s.frozen {
		s.overlay -= recSize(k, r)
	}
	s.frozen = nil
	upTo := s.frozenSeg
	s.mu.Unlock()
	var keep []segInfo
	var first error
	spare := s.wal.toSpare(upTo, 2*s.opt.CheckpointBytes)
	for _, seg := range s.wal.closed {
		switch {
		case seg.id > upTo:
			keep = append(keep, seg)
		case spare != nil && seg.id == spare.id:
		default:
			if err := s.discard(seg); err != nil {
				keep = append(keep, seg)
				first = cmp.Or(first, err)
			}
		}
	}
	s.wal.closed = keep
	s.logBytes.Store(s.wal.size())
	err := s.opt.fs.syncDir(s.opt.Dir)
	s.wal.keepSpare(spare, err)
	first = cmp.Or(first, err)
	if first != nil {
		return fmt.Errorf("store: removing checkpointed log: %w", first)
	}
	return nil
}

func (s *Store) discard(seg segInfo) error {
	path := filepath.Join(s.opt.Dir, segName(seg.id))
	if seg.damaged {
		_, err := setAside(s.opt.fs, path)
		return err
	}
	return s.opt.fs.remove(path)
}

// joinStored makes bbolt's value of a record: its sequence, and the sealed value that is bound to it.
func joinStored(r rec) []byte {
	b := make([]byte, 0, binary.MaxVarintLen64+len(r.sealed))
	return append(binary.AppendUvarint(b, r.seq), r.sealed...)
}

func splitStored(v []byte) (seq uint64, sealed []byte, ok bool) {
	seq, n := binary.Uvarint(v)
	if n <= 0 {
		return 0, nil, false
	}
	return seq, v[n:], true
}

func (s *Store) sealInfo(seq uint64, t tally) ([]byte, error) {
	plain := binary.LittleEndian.AppendUint64(nil, seq)
	plain = binary.LittleEndian.AppendUint64(plain, s.wal.epoch)
	plain = binary.LittleEndian.AppendUint64(plain, t.count)
	plain = append(plain, t.sum[:]...)
	return s.opt.Sealer.Seal(nil, plain, appendAD(nil, infoRec, 0, false))
}

func (s *Store) openInfo(sealed []byte) (seq, epoch uint64, t tally, ok bool) {
	plain, err := s.opt.Sealer.Open(nil, sealed, appendAD(nil, infoRec, 0, false))
	if err != nil || len(plain) != 40 {
		return 0, 0, t, false
	}
	t.count = binary.LittleEndian.Uint64(plain[16:])
	copy(t.sum[:], plain[24:])
	return binary.LittleEndian.Uint64(plain), binary.LittleEndian.Uint64(plain[8:]), t, true
}

// tally says which records at which versions a checkpoint has: their number, and the exclusive or of the hashes of key and
// sequence. bbolt has no checksum over its leaf pages, and a seal cannot tell that a record is missing, or older than it should be.
type tally struct {
	count uint64
	sum   [16]byte
}

func (t *tally) add(k recKey, stored []byte)    { t.count++; t.toggle(k, stored) }
func (t *tally) remove(k recKey, stored []byte) { t.count--; t.toggle(k, stored) }

func (t *tally) toggle(k recKey, stored []byte) {
	seq, _, _ := splitStored(stored)
	h := sha256.Sum256(appendAD(nil, k, seq, false))
	for i := range t.sum {
		t.sum[i] ^= h[i]
	}
}
