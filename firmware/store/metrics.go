package store

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Metrics are counters since Open, and a few levels.
type Metrics struct {
	BytesWritten           int64 // all that follows
	LogBytesWritten        int64 // appended to the log
	CheckpointBytesWritten int64 // pages written to bbolt
	Syncs                  int64 // fsync and fdatasync
	Batches                int64 // durable batches and unions of lazy ones
	Frames                 int64 // groups of batches, one fdatasync each
	Checkpoints            int64
	Failures               int64 // writes of the log or the checkpoint that failed
	RecordsDropped         int64 // values that did not open, found at Open or later

	LogBytes     int64 // log that is not checkpointed
	OverlayBytes int64 // memory for it, estimated
	LazyBytes    int64 // lazy changes that are not in the log yet
}

type counters struct {
	bytes, ckptBytes, fsyncs, batches, frames, checkpoints, failures, dropped atomic.Int64
}

// Metrics returns the current figures.
func (s *Store) Metrics() Metrics {
	c := &s.count
	m := Metrics{
		LogBytesWritten: c.bytes.Load(), CheckpointBytesWritten: c.ckptBytes.Load(), Syncs: c.fsyncs.Load(),
		Batches: c.batches.Load(), Frames: c.frames.Load(), Checkpoints: c.checkpoints.Load(),
		Failures: c.failures.Load(), RecordsDropped: c.dropped.Load(), LogBytes: s.logBytes.Load(),
	}
	m.BytesWritten = m.LogBytesWritten + m.CheckpointBytesWritten
	s.mu.RLock()
	m.OverlayBytes, m.LazyBytes = s.overlay, int64(s.lazy)
	s.mu.RUnlock()
	return m
}

// What says what kind of damage a Finding is about.
type What string

// The kinds of findings.
const (
	TornTail          What = "TornTail"          // a write that was cut off, never acknowledged; removed
	LogDamaged        What = "LogDamaged"        // bytes of the log that are not whole frames; the segment is set aside
	LogGap            What = "LogGap"            // frames are missing
	RecordDropped     What = "RecordDropped"     // a value did not open
	CheckpointDamaged What = "CheckpointDamaged" // bbolt's file was damaged; set aside, what was readable is kept
	OtherKey          What = "OtherKey"          // a file was sealed with another key; set aside
	KeyRepaired       What = "KeyRepaired"       // a copy of the sealing key was damaged or missing
)

// Finding is one thing that was found damaged, and what became of it.
type Finding struct {
	What   What
	Where  string // file or record
	Detail string
}

func (f Finding) String() string { return string(f.What) + " " + f.Where + ": " + f.Detail }

// Recovery says what was found damaged and repaired, at Open and since.
type Recovery struct {
	Findings []Finding // the first 100
	More     int       // further ones
	Salvaged int       // records taken out of a damaged checkpoint
	Replayed int       // frames taken from the log
}

// Clean reports whether there were no findings but torn tails, writes that
// were never acknowledged, and repaired copies of the key. (Damage that hits exactly the last
// frame of the log looks the same.)
func (r Recovery) Clean() bool {
	for _, f := range r.Findings {
		if f.What != TornTail && f.What != KeyRepaired {
			return false
		}
	}
	return r.More == 0
}

// String is empty if there were no findings.
func (r Recovery) String() string {
	if len(r.Findings) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d frames replayed, %d records salvaged", r.Replayed, r.Salvaged)
	for _, f := range r.Findings {
		b.WriteString("; " + f.String())
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "; and %d more", r.More)
	}
	return b.String()
}

type findings struct {
	mu sync.Mutex
	r  Recovery
}

const maxFindings = 100

// note records and logs a finding.
func (s *Store) note(f Finding) {
	if f.What == RecordDropped {
		s.count.dropped.Add(1)
	}
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	if len(s.found.r.Findings) >= maxFindings {
		s.found.r.More++
		return
	}
	s.found.r.Findings = append(s.found.r.Findings, f)
	s.log.Warn("store: damage found", "what", f.What, "where", f.Where, "detail", f.Detail, "dir", s.opt.Dir)
}

// Recovery returns what was found damaged so far.
func (s *Store) Recovery() Recovery {
	s.found.mu.Lock()
	defer s.found.mu.Unlock()
	r := s.found.r
	r.Findings = append([]Finding(nil), r.Findings...)
	return r
}
