package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/skerry/skerry/firmware/durable"
)

// Options for Open.
type Options struct {
	// Dir holds all files of the store. It is created with mode 0700.
	Dir string
	// Sealer seals every value. Required.
	Sealer Sealer
	// Log receives what was repaired and what fails in the background. Default: slog.Default().
	Log *slog.Logger
	// Window is how long CommitLazy may leave a value in memory only. Default: 1 s.
	Window time.Duration
	// CheckpointBytes is the length of log after which it is moved to bbolt. Default: 4 MiB. At eight times that, which only
	// a checkpoint that fails again and again can bring about, commits are refused.
	CheckpointBytes int64
	// OverlayBytes is the size of values in memory after which the same happens. Default: 2 MiB.
	OverlayBytes int64

	// Beat is told every 15 s, by Run, whether the disk takes what is written and makes it durable. nil: nobody is.
	Beat Beat

	fs     fsys // tests inject a full disk
	noSync bool // of bbolt; for tests that open thousands of stores
}

const (
	defaultWindow     = time.Second
	defaultCheckpoint = 4 << 20
	defaultOverlay    = 2 << 20
	backlogFactor     = 8
	maxLazyBytes      = 4 << 20
	maxQueueBytes     = 2 * MaxBatch
)

// ErrClosed is returned by writes after Close.
var ErrClosed = errors.New("store is closed")

// ErrBacklog is wrapped by the error of a commit that found too much waiting for the disk.
var ErrBacklog = errors.New("too much is waiting for the disk")

// rec is a record beyond the last checkpoint. A deletion has no sealed value.
type rec struct {
	seq    uint64
	sealed []byte
	del    bool
}

// Store is an open store. All methods may be called concurrently. Close it once, after everything that uses it has ended.
type Store struct {
	opt   Options
	log   *slog.Logger
	lock  *dirLock
	count counters
	found findings

	lead chan struct{} // held by who writes the log (capacity 1)
	wal  *logWriter    // guarded by lead
	seq  uint64        // last acknowledged frame; guarded by lead
	buf  []byte        // guarded by lead

	ckpt chan struct{} // held by who writes the checkpoint (capacity 1)

	wake chan struct{} // tells Run to look

	mu        sync.RWMutex
	queue     []*pending
	queued    int  // bytes of durable batches in queue
	lazy      int  // bytes of lazy batches in queue and in flight
	lazyWaits bool // queue has a lazy batch, since lazySince
	lazySince time.Time
	order     uint64
	dirty     map[recKey]op  // lazy changes that are not in the log yet, newest of each key
	active    map[recKey]rec // in the log, not in a checkpoint
	frozen    map[recKey]rec // being checkpointed
	frozenSeq uint64
	frozenSeg uint64 // segments up to this one are covered by frozen
	overlay   int64  // bytes of active and frozen
	db        *bolt.DB
	writeErr  error // the last write failed with this; nil once one succeeded
	writeTold bool  // the log says that the store cannot write, since writeToldAt
	ckptErr   error
	closed    bool
	answered  time.Time // when the disk last made something durable

	writeToldAt time.Time

	replaceDB bool  // a damaged checkpoint waits to be replaced; guarded by ckpt
	tally     tally // of the checkpoint; guarded by ckpt

	logBytes atomic.Int64
}

// pending is a batch on its way to the log, or the union of lazy ones.
type pending struct {
	ops   []op
	index map[recKey]int // of lazy ones: newest op of each key
	bytes int
	done  chan error // nil for lazy ones
}

// Open opens or makes the store in opt.Dir: it takes the lock, checks and if need be repairs the files, and replays the log.
// What it found damaged is in Recovery; Open fails only if the directory is in use, not accessible, or cannot be read.
func Open(ctx context.Context, opt Options) (*Store, error) {
	if opt.Dir == "" || opt.Sealer == nil {
		return nil, errors.New("store: Options.Dir and Options.Sealer are required")
	}
	setDefaults(&opt)
	if err := durable.MakeDir(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: opt, log: opt.Log, lock: lock,
		lead: make(chan struct{}, 1), ckpt: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		dirty: map[recKey]op{}, active: map[recKey]rec{},
	}
	s.wal = &logWriter{fs: opt.fs, dir: opt.Dir, keyID: opt.Sealer.KeyID(), m: &s.count, nextID: 1}
	if k, ok := opt.Sealer.(*FileSealer); ok {
		for _, f := range k.findings() {
			s.note(f)
		}
	}
	if err := s.recover(ctx); err != nil {
		if s.db != nil {
			_ = s.db.Close()
		}
		_ = lock.release()
		return nil, err
	}
	return s, nil
}

func setDefaults(opt *Options) {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Window <= 0 {
		opt.Window = defaultWindow
	}
	if opt.CheckpointBytes <= 0 {
		opt.CheckpointBytes = defaultCheckpoint
	}
	if opt.OverlayBytes <= 0 {
		opt.OverlayBytes = defaultOverlay
	}
	if opt.fs == nil {
		opt.fs = osFS{}
	}
}

// Epoch returns the number of this opening of the store: it rises with every Open whose store was written to, also after
// damage, so that (epoch, counter) never names two things.
func (s *Store) Epoch() uint64 { return s.wal.epoch }

// Err returns why the store cannot write at the moment, or nil. It becomes nil by itself once a write succeeds.
func (s *Store) Err() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.writeErr != nil {
		return s.writeErr
	}
	return s.ckptErr
}

// Run writes lazy commits within their window and moves the log to the checkpoint, until ctx ends. It then writes what is
// still waiting. The store stays usable until Close.
func (s *Store) Run(ctx context.Context) error {
	const firstRetry, lastRetry = time.Second, 30 * time.Second
	retry, notBefore := firstRetry, time.Time{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.flushAll()
		case <-s.wake:
		case <-timer.C:
		}
		if s.lazyDue() == 0 {
			_ = s.flushAll() // logged and kept for Err
		}
		wait := time.Hour
		if s.checkpointDue() {
			if wait = time.Until(notBefore); wait <= 0 {
				if err := s.Checkpoint(); err != nil {
					s.log.Error("the store's log could not be moved to its checkpoint; it is tried again", "dir", s.opt.Dir, "retry", retry, "error", err)
					notBefore = time.Now().Add(retry)
					retry = min(2*retry, lastRetry)
				} else {
					retry = firstRetry
				}
				wait = retry
			}
		}
		if due := s.lazyDue(); due >= 0 {
			wait = min(wait, due)
		}
		if s.opt.Beat != nil {
			s.lookAtDisk()
			wait = min(wait, probeEvery)
		}
		timer.Reset(wait)
	}
}

// lazyDue returns how long lazy changes may still wait, 0 if they are due, and -1 if there are none.
func (s *Store) lazyDue() time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.lazyWaits {
		return -1
	}
	return max(0, s.opt.Window-time.Since(s.lazySince))
}

func (s *Store) checkpointDue() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.logBytes.Load() >= s.opt.CheckpointBytes || s.overlay >= s.opt.OverlayBytes
}

func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) takeLead() { s.lead <- struct{}{} }
func (s *Store) dropLead() { <-s.lead }

// Flush writes what waits, lazy changes too, and returns when it is durable. Run does so by itself; Flush is for the moment before
// the power is switched off, and for tests.
func (s *Store) Flush() error { return s.flushAll() }

func (s *Store) flushAll() error {
	s.takeLead()
	defer s.dropLead()
	s.flush()
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.lazy > 0 {
		return s.writeErr
	}
	return nil
}

// Close writes what is waiting and closes the files. It must not run at the same time as other methods of writing; Run has
// ended. It does not checkpoint: that would wear the flash at every restart, and replaying the log takes milliseconds.
func (s *Store) Close() error {
	err := s.flushAll()
	s.ckpt <- struct{}{}
	defer func() { <-s.ckpt }()
	s.takeLead()
	defer s.dropLead()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	db := s.db
	s.mu.Unlock()
	s.wal.retire()
	if db != nil {
		if cerr := db.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("store: closing the checkpoint: %w", cerr)
		}
	}
	if cerr := s.lock.release(); err == nil && cerr != nil {
		err = fmt.Errorf("store: %w", cerr)
	}
	return err
}
