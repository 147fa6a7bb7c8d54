package serialline

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"
)

// echoPatience is how much later than its own duration an echo may come: USB adapters collect bytes for up to 16 ms, and a busy
// gateway adds to it.
const echoPatience = 100 * time.Millisecond

// swallowEcho reads back what was sent. The line's deadline is put back afterwards.
func (p *Port) swallowEcho(sent []byte) error {
	limit := time.Now().Add(p.cfg.CharTime(len(sent)) + echoPatience)
	if before := p.until.get(); !before.IsZero() && before.Before(limit) {
		limit = before
	}
	if err := p.file.SetReadDeadline(limit); err != nil {
		return p.fault("set a deadline for", err)
	}
	defer func() {
		// Somebody may have interrupted meanwhile. A port that fails here fails at the next Read.
		_ = p.file.SetReadDeadline(p.until.get())
	}()
	var buf [256]byte
	got := 0
	for got < len(sent) {
		n, err := p.Read(buf[:min(len(buf), len(sent)-got)])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && p.until.passed(time.Now()):
			return err
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("serial port %s: %w: %d of %d bytes came back; is the line connected, and does this adapter echo (echo: true)?", p.cfg.Path, ErrEcho, got, len(sent))
		case err != nil:
			return err
		case !bytes.Equal(buf[:n], sent[got:got+n]):
			return fmt.Errorf("serial port %s: %w at byte %d: two stations send at once, or the wiring is bad", p.cfg.Path, ErrEcho, got+1)
		}
		got += n
	}
	return nil
}
