package board

import (
	"strconv"
	"strings"

	"github.com/skerry/skerry/board/strict"
)

// maxChain bounds how many files extend one another.
const maxChain = 4

// Parse reads and checks a board's file without extends. file is what errors call it.
func Parse(file string, text []byte) (*Descriptor, error) {
	var d Descriptor
	r := newReader(file)
	if err := r.Decode(text, &d); err != nil {
		return nil, err
	}
	if d.Extends != "" {
		r.Fail("extends", d.Extends, "a file that builds on another can only be read from a folder of boards")
	}
	if err := r.check(&d); err != nil {
		return nil, err
	}
	d.Source = file
	return &d, nil
}

// reader reads a board's file, and checks what it has read.
type reader struct{ strict.Reader }

func newReader(file string) *reader { return &reader{strict.Reader{File: file}} }

// Read takes a size over from a board's file.
func (s *Size) Read(text string) (allowed string) {
	n, ok := parseSize(text)
	if !ok {
		return "allowed are bytes, or a number with Ki, Mi or Gi, as 64Mi"
	}
	*s = n
	return ""
}

func parseSize(text string) (Size, bool) {
	unit := Size(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, unit = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > int64((1<<50)/unit) {
		return 0, false
	}
	return Size(n) * unit, true
}
