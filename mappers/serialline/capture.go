package serialline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Capture writes what goes over a line into a file that a technician can read: one line for each piece, with the time, its
// direction (> sent, < received), the bytes in hexadecimal and as text. The file is bounded: when it is full it becomes NAME.old,
// and a new one begins. A line that is opened again goes on in the same file: attempts to open a port that is unplugged take away
// nothing that was written before. It is safe for concurrent use.
type Capture struct {
	path  string
	limit int64

	mu    sync.Mutex
	file  *os.File // nil after Close, and while none can be had
	ended bool
	size  int64
	lost  int // pieces that could not be written
	line  strings.Builder
}

// CaptureSuffix ends the names of captures.
const CaptureSuffix = ".capture"

// CaptureName is the name of a port's capture file: its path with what a file name cannot have replaced.
func CaptureName(port string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '_'
	}, strings.Trim(port, "/"))
	return name[max(0, len(name)-100):] + CaptureSuffix
}

// NewCapture begins a capture in dir, which it makes; both files together hold at most limit bytes.
func NewCapture(dir, port string, limit int64) (*Capture, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of captures: %w", err)
	}
	c := &Capture{path: filepath.Join(dir, CaptureName(port)), limit: limit / 2}
	if err := c.resume(); err != nil {
		return nil, err
	}
	return c, nil
}

// resume opens the file that is there, or a new one.
func (c *Capture) resume() error {
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("go on with a capture: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return fmt.Errorf("go on with a capture: %s: %w", c.path, err)
	}
	if c.file, c.size = f, info.Size(); c.size >= c.limit {
		return c.begin()
	}
	return nil
}

// begin opens a new file and keeps the last one.
func (c *Capture) begin() error {
	if c.file != nil {
		_ = c.file.Close() // what could not be written is counted where it happened
		c.file = nil
	}
	if err := os.Rename(c.path, c.path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the last capture: %w", err)
	}
	f, err := os.OpenFile(c.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin a capture: %w", err)
	}
	c.file, c.size = f, 0
	return nil
}

// Tap is a Tap that writes to the file. A piece that cannot be written is counted and said in front of the next one: a full disk
// must not stop a line.
func (c *Capture) Tap(at time.Time, sent bool, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(data) > 0 {
		n := min(len(data), 32)
		c.put(at, sent, data[:n])
		data = data[n:]
	}
}

func (c *Capture) put(at time.Time, sent bool, data []byte) {
	if c.file == nil && (c.ended || c.resume() != nil) {
		c.lost++
		return
	}
	arrow := byte('<')
	if sent {
		arrow = '>'
	}
	b := &c.line
	b.Reset()
	if c.lost > 0 {
		fmt.Fprintf(b, "# %d pieces were lost: the disk was full\n", c.lost)
	}
	fmt.Fprintf(b, "%s %c % x  |", at.UTC().Format("2006-01-02T15:04:05.000000Z"), arrow, data)
	for _, ch := range data {
		if ch < ' ' || ch > '~' {
			ch = '.'
		}
		b.WriteByte(ch)
	}
	b.WriteString("|\n")
	if c.size+int64(b.Len()) > c.limit && c.size > 0 {
		if err := c.begin(); err != nil {
			c.lost++
			return
		}
	}
	n, err := c.file.WriteString(b.String())
	c.size += int64(n)
	if err != nil {
		c.lost++
		return
	}
	c.lost = 0
}

// Close ends the capture; the files stay.
func (c *Capture) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file = nil
	if err != nil {
		return fmt.Errorf("end a capture: %w", err)
	}
	return nil
}
