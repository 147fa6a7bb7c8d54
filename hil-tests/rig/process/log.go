package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	tailLines = 20
	tailBytes = 16 << 10
	// maxOutput bounds what Output keeps of each of a program's outputs.
	maxOutput = 64 << 20
)

// LogTail returns the last lines that this run of the child has written to its
// log, at most n of them and at most 16 KiB. It is empty if there is no log.
func (p *Process) LogTail(n int) string {
	if p.spec.Log == "" {
		return ""
	}
	f, err := os.Open(p.spec.Log)
	if err != nil {
		return fmt.Sprintf("(the log cannot be read: %v)", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Sprintf("(the log cannot be read: %v)", err)
	}
	from := max(p.logOffset, info.Size()-tailBytes)
	data, err := io.ReadAll(io.NewSectionReader(f, from, max(0, info.Size()-from)))
	if err != nil {
		return fmt.Sprintf("(the log cannot be read: %v)", err)
	}
	return lastLines(string(data), n)
}

func lastLines(text string, n int) string {
	text = strings.TrimRight(text, "\n")
	if text == "" || n <= 0 {
		return ""
	}
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *Process) quoteLog() string {
	tail := p.LogTail(tailLines)
	if tail == "" {
		return ""
	}
	return fmt.Sprintf("; the end of %s:%s", p.spec.Log, indent(tail))
}

// quote appends a program's own words to an error.
func quote(text string) string {
	if text = lastLines(text, tailLines); text == "" {
		return ""
	} else if !strings.Contains(text, "\n") {
		return ": " + text
	}
	return ":" + indent(text)
}

func indent(text string) string {
	return "\n    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// limitedBuffer keeps the first maxOutput bytes and lets the writer go on, so
// that a program gone wild neither blocks nor fills the memory.
type limitedBuffer struct{ buf bytes.Buffer }

func (b *limitedBuffer) Write(data []byte) (int, error) {
	room := maxOutput - b.buf.Len()
	b.buf.Write(data[:min(len(data), max(0, room))])
	return len(data), nil
}

func (b *limitedBuffer) String() string { return b.buf.String() }
