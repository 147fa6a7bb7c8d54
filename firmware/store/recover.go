package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checked is what a look at a checkpoint file found.
type checked struct {
	exists   bool
	damage   string // empty: sound
	seq      uint64
	epoch    uint64
	info     bool     // seq and epoch are known
	records  int      // that open
	broken   []recKey // that do not
	keyID    []byte
	maxSeq   uint64
	told     tally // what the checkpoint says it has
	has      tally // what it has
	otherKey bool
}

// recover brings the directory into order and fills the overlay from the log. It runs in Open, before anything else.
func (s *Store) recover(ctx context.Context) error {
	names, err := s.opt.fs.list(s.opt.Dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	ck, err := s.recoverCheckpoint(names)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	log, err := s.replay(names, ck)
	if err != nil {
		return err
	}
	s.seq = max(ck.seq, ck.maxSeq, log.last)
	s.wal.epoch = nextEpoch(max(ck.epoch, log.epoch), log.unknown, !s.Recovery().Clean(), time.Now())
	if err := s.verify(ck); err != nil {
		return err
	}
	s.found.r.Replayed = log.frames
	s.logBytes.Store(s.wal.size())
	return s.settle(ck, log)
}

// nextEpoch counts on from what the files say. Each header that cannot be read hides at most one epoch. If everything may have
// been lost, the clock keeps the number from going back; a gateway's clock can be wrong, so it only ever raises it. A store without
// an epoch counts as lost, too: a gateway whose data was erased comes back under its old name, and the relay would take its first
// events for those that it has stored.
func nextEpoch(known uint64, unknown int, damaged bool, now time.Time) uint64 {
	next := known + uint64(unknown) + 1
	if (damaged || known == 0) && now.UnixMilli() > 0 {
		next = max(next, uint64(now.UnixMilli()))
	}
	return next
}

// settle checkpoints right away if there was damage, so that the next start does not find it again. It is only an attempt: with a full disk the
// store must still open, and the damage can wait.
func (s *Store) settle(ck checked, log replayed) error {
	s.overlay = 0
	for k, r := range s.active {
		s.overlay += recSize(k, r)
	}
	if !log.damaged && !s.replaceDB && len(ck.broken) == 0 && len(s.wal.closed) < maxSegments && !s.checkpointDue() {
		return nil
	}
	if err := s.Checkpoint(); err != nil {
		s.log.Error("the store could not be tidied up after its repair; it is tried again at the next checkpoint", "dir", s.opt.Dir, "error", err)
	}
	return nil
}

// maxSegments bounds what a crash loop leaves behind: each start begins a segment.
const maxSegments = 16

// recoverCheckpoint checks bbolt's file, rebuilds it if it is damaged, and opens it. Without a file s.db stays nil.
func (s *Store) recoverCheckpoint(names []string) (checked, error) {
	path, fresh := filepath.Join(s.opt.Dir, dbName), filepath.Join(s.opt.Dir, newName)
	if slices.Contains(names, newName) {
		if err := s.adoptRebuilt(path, fresh, slices.Contains(names, dbName)); err != nil {
			return checked{}, err
		}
	}
	ck, err := s.checkBolt(path, nil)
	if err != nil || !ck.exists {
		return ck, err
	}
	if ck.otherKey {
		aside, err := setAside(s.opt.fs, path)
		if err != nil {
			return ck, err
		}
		s.note(Finding{OtherKey, path, fmt.Sprintf("none of its %d records opens with the present sealing key; set aside as %s", len(ck.broken), filepath.Base(aside))})
		return checked{}, nil
	}
	if ck.damage == "" {
		db, err := s.openBolt(path)
		if err == nil {
			s.db, s.tally = db, ck.has
			for _, k := range ck.broken {
				s.note(Finding{RecordDropped, k.String(), "its value in the checkpoint does not open: altered or moved"})
			}
			return ck, nil
		}
		if !isDamage(err) {
			return ck, err
		}
		ck.damage = err.Error()
	}
	return ck, s.rebuild(path, &ck)
}

// isDamage tells a file that bbolt finds unusable from one that cannot be opened for another reason.
func isDamage(err error) bool {
	for _, e := range []error{errFault, berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum, berrors.ErrInvalidMapping} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// adoptRebuilt finishes a checkpoint that was made completely, and then interrupted before it took its place.
func (s *Store) adoptRebuilt(path, fresh string, haveOld bool) error {
	if !haveOld {
		if ck, err := s.checkBolt(fresh, nil); err == nil && ck.damage == "" && ck.info {
			if err := s.opt.fs.rename(fresh, path); err != nil {
				return fmt.Errorf("store: %w", err)
			}
			return s.syncDir()
		}
	}
	if err := s.opt.fs.remove(fresh); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func (s *Store) syncDir() error {
	if err := s.opt.fs.syncDir(s.opt.Dir); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// checkBolt walks a checkpoint file. keep, if not nil, gets each record that opens.
func (s *Store) checkBolt(path string, keep func(recKey, rec)) (checked, error) {
	f, err := s.opt.fs.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checked{}, nil
	}
	if err != nil {
		return checked{}, fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return checked{}, fmt.Errorf("store: %w", err)
	}
	ck := checked{exists: true}
	spaces := map[string]Space{}
	for _, sp := range Spaces() {
		spaces[sp.String()] = sp
	}
	walk, err := walkBolt(f, size, func(bucket string, key, value []byte) {
		if bucket == infoBucket {
			s.checkInfo(&ck, string(key), value)
			return
		}
		sp, known := spaces[bucket]
		if !known {
			return
		}
		k := recKey{sp, string(key)}
		seq, sealed, whole := splitStored(value)
		ck.has.add(k, value)
		r := rec{seq: seq, sealed: sealed}
		if _, err := s.unseal(k, r); !whole || err != nil {
			ck.broken = append(ck.broken, k)
			return
		}
		ck.records++
		ck.maxSeq = max(ck.maxSeq, seq)
		if keep != nil {
			r.sealed = bytes.Clone(sealed)
			keep(k, r)
		}
	})
	switch {
	case err != nil:
		ck.damage = err.Error()
	case walk.bad > 0:
		ck.damage = fmt.Sprintf("%d faults: %s", walk.bad, strings.Join(walk.damage, "; "))
	case !ck.info && ck.records > 0:
		ck.damage = "its own record is missing or does not open"
	case ck.info && ck.told != ck.has && len(ck.broken) == 0: // a broken record differs, too, and costs only itself
		ck.damage = fmt.Sprintf("it should have %d records and has %d, or one is older than it should be", ck.told.count, ck.has.count)
	}
	id := s.opt.Sealer.KeyID()
	ck.otherKey = ck.records == 0 && len(ck.broken) > 0 && !ck.info && ck.keyID != nil && !bytes.Equal(ck.keyID, id[:])
	return ck, nil
}

func (s *Store) checkInfo(ck *checked, key string, value []byte) {
	switch key {
	case infoKey:
		ck.seq, ck.epoch, ck.told, ck.info = s.openInfo(value)
	case infoKeyID:
		ck.keyID = bytes.Clone(value)
	}
}

// rebuild replaces a damaged checkpoint by one of the records in it that can still be reached and open.
func (s *Store) rebuild(path string, ck *checked) error {
	salvaged := map[recKey]rec{}
	if _, err := s.checkBolt(path, func(k recKey, r rec) { salvaged[k] = r }); err != nil {
		return err
	}
	s.wal.epoch = ck.epoch // for the new file's own record; recover() counts on from it
	db, _, aside, err := s.makeBolt(salvaged, ck.seq)
	if err != nil {
		// With a full disk the records are served from memory, and the damaged file stays where it is until there is room.
		s.log.Error("the damaged checkpoint cannot be rebuilt on disk yet; its readable records are held in memory", "file", path, "error", err)
		s.active, s.replaceDB, aside = salvaged, true, "(later)"
	}
	s.db = db
	s.found.r.Salvaged = len(salvaged)
	s.note(Finding{CheckpointDamaged, path, fmt.Sprintf("%s; set aside as %s, %d records salvaged, %d did not open; what is missing comes from the log and the relay",
		ck.damage, filepath.Base(aside), len(salvaged), len(ck.broken))})
	ck.broken = nil
	return nil
}

// verify opens every record of the overlay, and hides the broken ones of the checkpoint.
func (s *Store) verify(ck checked) error {
	for k, r := range s.active {
		if r.del {
			continue
		}
		if _, err := s.unseal(k, r); err != nil {
			s.active[k] = rec{seq: r.seq, del: true}
			s.note(Finding{RecordDropped, k.String(), "its value in the log does not open: altered or moved"})
		}
	}
	for _, k := range ck.broken {
		if _, ok := s.active[k]; !ok {
			s.active[k] = rec{del: true}
		}
	}
	if s.db == nil {
		return nil
	}
	// A segment that should be gone may still be there: the newer record of each key counts.
	for _, space := range Spaces() {
		err := viewBolt(s.db, space, func(b *bolt.Bucket) error {
			for k, r := range s.active {
				if k.space != space || r.seq == 0 {
					continue
				}
				if v := b.Get([]byte(k.key)); v != nil {
					if seq, _, ok := splitStored(v); ok && seq > r.seq {
						delete(s.active, k)
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
