package diagnose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// The bounds of a bundle.
const (
	MaxFile    = 512 << 10 // bytes of one source; of a longer one the beginning is kept
	MaxBundle  = 6 << 20   // of all together, before compression
	SourceTime = 5 * time.Second
	MaxTime    = 60 * time.Second // all together
)

// Source is one file of a bundle.
type Source struct {
	Name    string // path in the bundle
	Collect func(ctx context.Context, w io.Writer) error
}

// Text is a source that is there already.
func Text(name, text string) Source {
	return Source{name, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}}
}

// Write collects all sources, one after the other, and writes the bundle to w. Its error is w's; what could not be collected is told in the bundle's summary.txt.
func Write(ctx context.Context, w io.Writer, lists ...[]Source) error {
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	zip := gzip.NewWriter(w)
	b := &bundle{tar: tar.NewWriter(zip), left: MaxBundle, now: time.Now(), redactor: newRedactor()}
	for _, list := range lists {
		for _, s := range list {
			if err := b.add(ctx, s); err != nil {
				return err
			}
		}
	}
	b.left = MaxFile
	if err := b.file("summary.txt", b.summary.Bytes()); err != nil {
		return err
	}
	return errors.Join(b.tar.Close(), zip.Close())
}

type bundle struct {
	tar     *tar.Writer
	left    int
	now     time.Time
	summary bytes.Buffer
	*redactor
}

// add collects one source, and says in the summary how that went.
func (b *bundle) add(ctx context.Context, s Source) error {
	if b.left == 0 {
		fmt.Fprintf(&b.summary, "%-32s left out: the bundle has its %d MiB\n", s.Name, MaxBundle>>20)
		return nil
	}
	text, err := collect(ctx, s, min(MaxFile, b.left))
	if strings.HasSuffix(s.Name, ".yaml") {
		text = b.yaml(text)
	} else {
		text = b.redact(text)
	}
	text = text[:min(len(text), b.left)]
	if err != nil {
		fmt.Fprintf(&b.summary, "%-32s %7d bytes; INCOMPLETE: %s\n", s.Name, len(text), oneLine(err))
	} else {
		fmt.Fprintf(&b.summary, "%-32s %7d bytes\n", s.Name, len(text))
	}
	if len(text) == 0 {
		return nil
	}
	return b.file(s.Name, text)
}

func (b *bundle) file(name string, text []byte) error {
	b.left -= len(text)
	err := b.tar.WriteHeader(&tar.Header{Name: "skerry-diagnose/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.now, Format: tar.FormatPAX})
	if err == nil {
		_, err = b.tar.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

var (
	errFull = errors.New("it is longer; the rest is left out")
	errHung = errors.New("it did not come in time: what it asks is stuck")
)

// collect runs a source, which may hang.
func collect(ctx context.Context, s Source, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, SourceTime)
	defer cancel()
	to := &bounded{left: limit}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- s.Collect(ctx, to)
	}()
	t := time.NewTimer(SourceTime + time.Second)
	defer t.Stop()
	var err error
	select {
	case err = <-done:
	case <-t.C:
		err = errHung
	}
	text, full := to.close()
	if full {
		err = errFull
	}
	return text, err
}

// bounded takes what fits. After close it takes nothing, so that a source which was left behind harms nobody.
type bounded struct {
	mu   sync.Mutex
	buf  []byte
	left int
	full bool
	done bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return 0, errHung
	}
	n := min(len(p), b.left)
	b.buf = append(b.buf, p[:n]...)
	if b.left -= n; n < len(p) {
		b.full = true
		return n, errFull
	}
	return n, nil
}

func (b *bounded) close() (text []byte, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	return b.buf, b.full
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", " ") }
