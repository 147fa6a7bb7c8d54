package diagnose

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
)

// Ring keeps the newest lines that were written to it. Its methods may be called concurrently.
type Ring struct {
	mu  sync.Mutex
	max int
	buf []byte // oldest first; up to twice max, so that it is moved seldom
}

// NewRing returns a ring of max bytes.
func NewRing(limit int) *Ring { return &Ring{max: limit} }

// Write implements io.Writer.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, p...)
	if len(r.buf) > 2*r.max {
		r.buf = append(r.buf[:0], r.buf[len(r.buf)-r.max:]...)
	}
	return len(p), nil
}

// Last writes the newest whole lines.
func (r *Ring) Last(w io.Writer) error {
	r.mu.Lock()
	text := r.buf
	if over := len(text) - r.max; over > 0 {
		text = text[over:]
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
	}
	text = bytes.Clone(text)
	r.mu.Unlock()
	_, err := w.Write(text)
	return err
}

// Also returns a logger that does what log does, and writes each line to the ring, too.
func (r *Ring) Also(log *slog.Logger) *slog.Logger {
	return slog.New(both{log.Handler(), slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})})
}

// both hands records to two handlers; the first decides which.
type both struct{ first, second slog.Handler }

func (b both) Enabled(ctx context.Context, l slog.Level) bool { return b.first.Enabled(ctx, l) }

func (b both) Handle(ctx context.Context, r slog.Record) error {
	_ = b.second.Handle(ctx, r.Clone())
	return b.first.Handle(ctx, r)
}

func (b both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{b.first.WithAttrs(a), b.second.WithAttrs(a)}
}
func (b both) WithGroup(n string) slog.Handler {
	return both{b.first.WithGroup(n), b.second.WithGroup(n)}
}
