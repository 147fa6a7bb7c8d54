package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"
)

// Commit applies b: all of it or nothing. It returns nil once b is in the log and synced; readers then see it. On an error
// nothing of b is applied, and the error wraps the cause (for a full disk syscall.ENOSPC); later commits may succeed. If ctx
// ends before the write has begun, b is withdrawn; a write that has begun is waited for.
func (s *Store) Commit(ctx context.Context, b Batch) error {
	size, err := b.check()
	if err != nil || len(b.ops) == 0 {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.relieve()
	p := &pending{ops: slices.Clone(b.ops), bytes: size, done: make(chan error, 1)}
	if err := s.enqueue(p); err != nil {
		return err
	}
	select {
	case s.lead <- struct{}{}:
		s.flush()
		s.dropLead()
		return <-p.done
	case err := <-p.done:
		return err
	case <-ctx.Done():
		if s.withdraw(p) {
			return ctx.Err()
		}
		return <-p.done
	}
}

// relieve checkpoints in the caller's time when nobody does it in the background, or not fast enough.
func (s *Store) relieve() {
	if s.logBytes.Load() > backlogFactor/2*s.opt.CheckpointBytes {
		_ = s.Checkpoint() // remembered in ckptErr; the commit itself can still succeed
	}
}

func (s *Store) enqueue(p *pending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.queued+p.bytes > maxQueueBytes {
		return fmt.Errorf("store: %d bytes of commits: %w", s.queued, ErrBacklog)
	}
	for i := range p.ops {
		s.order++
		p.ops[i].order = s.order
	}
	s.queue = append(s.queue, p)
	s.queued += p.bytes
	return nil
}

func (s *Store) withdraw(p *pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, p)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	s.queued -= p.bytes
	return true
}

// CommitLazy applies b: all of it or nothing. Readers see it at once; it is durable within Options.Window, and if the disk
// refuses it, it is tried again until it succeeds or the agent ends (see Err). Of several values for one key within a window only the
// newest is written. An error means that b was not applied: it is too large, or too much is waiting already.
func (s *Store) CommitLazy(b Batch) error {
	if _, err := b.check(); err != nil || len(b.ops) == 0 {
		return err
	}
	s.mu.RLock()
	full := s.lazy > maxLazyBytes
	s.mu.RUnlock()
	if full {
		s.relieve()
		if err := s.flushAll(); err != nil {
			return fmt.Errorf("store: %w: %w", ErrBacklog, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	p := s.lazyTail()
	for _, o := range b.ops {
		s.order++
		o.order = s.order
		s.lazy += p.merge(o)
		s.dirty[o.recKey] = o
	}
	if !s.lazyWaits {
		s.lazyWaits, s.lazySince = true, time.Now()
		s.poke()
	}
	return nil
}

// lazyTail returns the last batch of the queue if it is lazy, or a new one.
func (s *Store) lazyTail() *pending {
	if n := len(s.queue); n > 0 && s.queue[n-1].done == nil {
		return s.queue[n-1]
	}
	p := &pending{index: map[recKey]int{}}
	s.queue = append(s.queue, p)
	return p
}

// merge adds o to a lazy batch and returns by how much the batch grew.
func (p *pending) merge(o op) int {
	grown := o.size()
	if i, ok := p.index[o.recKey]; ok {
		grown -= p.ops[i].size()
		p.ops[i] = o
	} else {
		p.index[o.recKey] = len(p.ops)
		p.ops = append(p.ops, o)
	}
	p.bytes += grown
	return grown
}

// flush writes all that waits. The caller holds lead. Each batch is in one frame; a frame holds as many batches as fit.
func (s *Store) flush() {
	s.mu.Lock()
	work := s.queue
	s.queue, s.queued, s.lazyWaits = nil, 0, false
	closed := s.closed
	s.mu.Unlock()
	if closed {
		s.fail(work, ErrClosed)
		return
	}
	for len(work) > 0 {
		n, size := 1, work[0].bytes
		for n < len(work) && size+work[n].bytes <= maxGroup {
			size += work[n].bytes
			n++
		}
		if err := s.writeGroup(work[:n]); err != nil {
			// What comes after must not overtake what failed, so all of it fails.
			s.fail(work, err)
			return
		}
		work = work[n:]
	}
	if s.checkpointDue() {
		s.poke()
	}
}

// tellAgain is the shortest time between two lines in the log that say that the store cannot write.
const tellAgain = time.Minute

// fail tells committers and puts lazy changes back in front of the queue.
func (s *Store) fail(work []*pending, err error) {
	s.count.failures.Add(1)
	s.mu.Lock()
	s.writeErr = err
	// A disk that is almost full takes small writes and refuses others: that is told once a minute, not at each turn.
	tell := !s.writeTold && (s.writeToldAt.IsZero() || time.Since(s.writeToldAt) >= tellAgain)
	if tell {
		s.writeTold, s.writeToldAt = true, time.Now()
	}
	back := &pending{index: map[recKey]int{}}
	before := 0
	for _, p := range work {
		if p.done != nil {
			continue
		}
		before += p.bytes
		for _, o := range p.ops {
			back.merge(o)
		}
	}
	if len(back.ops) > 0 {
		if len(s.queue) > 0 && s.queue[0].done == nil {
			before += s.queue[0].bytes
			for _, o := range s.queue[0].ops {
				back.merge(o)
			}
			s.queue = s.queue[1:]
		}
		s.queue = append([]*pending{back}, s.queue...)
		s.lazy += back.bytes - before
		s.lazyWaits, s.lazySince = true, time.Now() // the disk gets a window's rest before the next attempt
	}
	s.mu.Unlock()
	if tell {
		s.log.Error("the store cannot write; reading goes on and writing is tried again", "dir", s.opt.Dir, "error", err)
	}
	for _, p := range work {
		if p.done != nil {
			p.done <- err
		}
	}
}

// writeGroup writes batches as one frame and applies them. The caller holds lead.
func (s *Store) writeGroup(group []*pending) error {
	if size := s.wal.size(); size > backlogFactor*s.opt.CheckpointBytes {
		s.mu.RLock()
		cause := s.ckptErr
		s.mu.RUnlock()
		return fmt.Errorf("store: the log in %s has grown to %d bytes because it cannot be checkpointed: %w: %w", s.opt.Dir, size, ErrBacklog, cause)
	}
	last, err := s.wal.ready(s.seq)
	if err != nil {
		return diskError("writing the log", s.opt.Dir, err)
	}
	s.seq = last
	newest := coalesce(group)
	recs := make(map[recKey]rec, len(newest))
	seq := s.seq + 1
	frame := beginFrame(s.buf[:0], seq, len(newest))
	for _, o := range newest {
		sealed, err := s.seal(o, seq)
		if err != nil {
			return err
		}
		frame = appendChange(frame, change{recKey: o.recKey, del: o.del, sealed: sealed})
		if o.del {
			sealed = nil
		}
		recs[o.recKey] = rec{seq: seq, sealed: sealed, del: o.del}
	}
	endFrame(frame, 0, s.wal.id)
	err = s.wal.append(frame)
	if s.buf = frame[:0]; cap(frame) > 256<<10 {
		s.buf = nil
	}
	if err != nil {
		return diskError("writing the log", s.opt.Dir, err)
	}
	s.seq = seq
	s.count.frames.Add(1)
	s.count.batches.Add(int64(len(group)))
	s.apply(group, newest, recs)
	return nil
}

func (s *Store) seal(o op, seq uint64) ([]byte, error) {
	var ad [64]byte
	value := o.value
	if o.del {
		value = nil
	}
	sealed, err := s.opt.Sealer.Seal(make([]byte, 0, len(value)+sealOverhead), value, appendAD(ad[:0], o.recKey, seq, o.del))
	if err != nil {
		return nil, fmt.Errorf("store: sealing %v: %w", o.recKey, err)
	}
	return sealed, nil
}

// coalesce returns the newest change of each key in the order of first mention. All batches of a group come into force
// together, so what one overwrites of another need not be written.
func coalesce(group []*pending) []op {
	if len(group) == 1 && group[0].index != nil {
		return group[0].ops
	}
	var out []op
	index := map[recKey]int{}
	for _, p := range group {
		for _, o := range p.ops {
			if i, ok := index[o.recKey]; ok {
				out[i] = o
				continue
			}
			index[o.recKey] = len(out)
			out = append(out, o)
		}
	}
	return out
}

// apply makes a synced group visible.
func (s *Store) apply(group []*pending, newest []op, recs map[recKey]rec) {
	s.mu.Lock()
	for _, o := range newest {
		if d, ok := s.dirty[o.recKey]; ok && d.order <= o.order {
			delete(s.dirty, o.recKey)
		}
		s.overlay += recSize(o.recKey, recs[o.recKey])
		if old, ok := s.active[o.recKey]; ok {
			s.overlay -= recSize(o.recKey, old)
		}
	}
	maps.Copy(s.active, recs)
	for _, p := range group {
		if p.done == nil {
			s.lazy -= p.bytes
		}
	}
	recovered := s.writeTold
	s.writeErr, s.writeTold, s.answered = nil, false, time.Now()
	s.logBytes.Store(s.wal.size())
	s.mu.Unlock()
	if recovered {
		s.log.Info("the store can write again", "dir", s.opt.Dir)
	}
	for _, p := range group {
		if p.done != nil {
			p.done <- nil
		}
	}
}

// recSize estimates what a record takes in the overlay: its bytes, and map and header overhead.
func recSize(k recKey, r rec) int64 { return int64(len(k.key) + len(r.sealed) + 64) }

// diskError adds the remedy to the errors that have one.
func diskError(doing, dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("store: %s in %s: the disk is full, free some space: %w", doing, dir, err)
	case errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("store: %s in %s: the limit on file sizes is reached, raise it (LimitFSIZE): %w", doing, dir, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("store: %s in %s: the file system is read-only, look for disk errors in the kernel's log: %w", doing, dir, err)
	}
	return fmt.Errorf("store: %s in %s: %w", doing, dir, err)
}
