package store

import (
	"errors"
	"syscall"
	"time"
)

// Beat is the sign of life of a store. *health.Beat implements it. Its methods do not block.
type Beat interface {
	Alive()
	Failing(err error)
}

// probeEvery is how often Run finds out whether the disk answers.
const probeEvery = 15 * time.Second

// lookAtDisk says whether the disk makes durable what it is given. If nothing was written for a while, it is asked by a sync of what is there, which
// wears nothing. A sync that hangs keeps Run from coming back here: that is what a watchdog waits for. It is called by Run.
func (s *Store) lookAtDisk() {
	s.mu.RLock()
	recent, failed := time.Since(s.answered) < probeEvery, s.writeErr
	s.mu.RUnlock()
	var err error
	if !recent || failed != nil {
		err = s.probe(resetMayMend(failed))
	}
	if resetMayMend(err) {
		s.opt.Beat.Failing(err)
		return
	}
	s.opt.Beat.Alive()
}

// probe has the disk sync. After a write has failed, only a write proves that it takes them again.
func (s *Store) probe(failed bool) error {
	s.takeLead()
	defer s.dropLead()
	s.mu.RLock()
	closed := s.closed
	s.mu.RUnlock()
	if closed {
		return nil
	}
	last, err := s.wal.probe(s.seq, failed)
	s.seq = last
	if err != nil {
		err = diskError("syncing the log", s.opt.Dir, err)
		s.fail(nil, err)
		return err
	}
	s.mu.Lock()
	recovered := failed && s.writeTold
	s.answered = time.Now()
	if failed {
		s.writeErr, s.writeTold = nil, false
	}
	s.mu.Unlock()
	if recovered {
		s.log.Info("the store can write again", "dir", s.opt.Dir)
	}
	return nil
}

// resetMayMend reports whether an error of the disk may be gone after a reset: a controller that hangs, a card that has stopped answering. A disk
// that is full stays full, and one that is read-only stays so: health/readonly restarts the machine for that, and knows when to end.
func resetMayMend(err error) bool {
	if err == nil {
		return false
	}
	for _, lasting := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EROFS, ErrBacklog, ErrClosed} {
		if errors.Is(err, lasting) {
			return false
		}
	}
	return true
}

// probe syncs the current segment; with write, it writes first: zeros behind the last frame, which count for nothing, or the header of a new segment. after
// and last are those of ready.
func (w *logWriter) probe(after uint64, write bool) (last uint64, err error) {
	switch {
	case w.cur == nil && write:
		return w.ready(after)
	case w.cur == nil:
		w.m.fsyncs.Add(1)
		return after, w.fs.syncDir(w.dir)
	case write:
		n, err := w.cur.WriteAt(make([]byte, 512), w.off)
		w.m.bytes.Add(int64(n))
		w.ahead = max(w.ahead, w.off+int64(n))
		if err != nil {
			return after, err
		}
	}
	w.m.fsyncs.Add(1)
	if err := w.cur.Datasync(); err != nil {
		w.doubt()
		return after, err
	}
	return after, nil
}
