package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// maxKept is how much of a console stays in memory; the transcript has all.
const maxKept = 1 << 20

// Console is what a gateway writes and reads at one port. All that comes goes into the transcript, whether somebody expects it or not.
type Console struct {
	transcript *os.File

	mu      sync.Mutex
	kept    []byte
	begin   int64         // offset of kept[0] in all that came
	seen    int64         // where Expect goes on
	changed chan struct{} // closed with the next byte, and when the stream ends
	port    io.ReadWriteCloser
	readers sync.WaitGroup
}

// newConsole makes a console that nothing is attached to.
func newConsole(path string) (*Console, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("transcript of the console: %w", err)
	}
	return &Console{transcript: f, changed: make(chan struct{})}, nil
}

// Transcript is the path of the file with all that came.
func (c *Console) Transcript() string { return c.transcript.Name() }

// attach reads port from now on. A port before is let go.
func (c *Console) attach(port io.ReadWriteCloser) {
	c.detach()
	c.mu.Lock()
	c.port = port
	c.mu.Unlock()
	c.readers.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := port.Read(buf)
			c.add(buf[:n])
			if err != nil {
				return
			}
		}
	})
}

// detach closes the port and waits for its reader.
func (c *Console) detach() {
	c.mu.Lock()
	port := c.port
	c.port = nil
	c.mu.Unlock()
	if port != nil {
		_ = port.Close() // it may be gone with the machine
	}
	c.readers.Wait()
}

func (c *Console) close() error {
	c.detach()
	return c.transcript.Close()
}

func (c *Console) add(b []byte) {
	if len(b) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.transcript.Write(b) // a full disk must not end a scenario that does not need the transcript
	c.kept = append(c.kept, b...)
	if over := len(c.kept) - maxKept; over > 0 {
		c.kept = append(c.kept[:0], c.kept[over:]...)
		c.begin += int64(over)
		c.seen = max(c.seen, c.begin)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// Note writes a line of ours between those of the gateway.
func (c *Console) Note(format string, args ...any) {
	c.add([]byte("\n--- " + time.Now().UTC().Format("15:04:05.000 ") + fmt.Sprintf(format, args...) + "\n"))
}

// Write types p.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	port := c.port
	c.mu.Unlock()
	if port == nil {
		return 0, errors.New("nothing is attached to the console: the gateway is switched off")
	}
	return port.Write(p)
}

// Skip has Expect look only at what comes from now on.
func (c *Console) Skip() {
	c.mu.Lock()
	c.seen = c.begin + int64(len(c.kept))
	c.mu.Unlock()
}

// Expect waits until what came after the last match matches pattern, and returns the match and its groups. Bytes that are no UTF-8 are matched as they are.
func (c *Console) Expect(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		c.mu.Lock()
		part, changed := c.kept[c.seen-c.begin:], c.changed
		at := pattern.FindSubmatchIndex(part)
		if at != nil {
			groups := make([]string, 0, len(at)/2)
			for i := 0; i < len(at); i += 2 {
				text := ""
				if at[i] >= 0 {
					text = string(part[at[i]:at[i+1]])
				}
				groups = append(groups, text)
			}
			c.seen += int64(at[1])
			c.mu.Unlock()
			return groups, nil
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s on the console: %w; its last lines:\n%s", pattern, context.Cause(ctx), c.Tail(15))
		}
	}
}

// Tail returns the last n lines that are not empty.
func (c *Console) Tail(n int) string {
	c.mu.Lock()
	text := string(bytes.ToValidUTF8(c.kept[max(0, len(c.kept)-64<<10):], []byte("?")))
	c.mu.Unlock()
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n \t"); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
