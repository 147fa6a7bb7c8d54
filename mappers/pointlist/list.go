package pointlist

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/skerry/skerry/mappers/device"
)

// Limits of a list.
const (
	MaxSize   = 16 << 20 // bytes of a file
	maxPoints = 10000    // properties that a Device may have
	maxFields = 200      // columns
	maxText   = 4096     // bytes of a field
)

// Point is one point of a list.
type Point struct {
	Line        int // where it stands in the file; 0 if there is none
	Name        string
	Type        string // of the DeviceModel: INT, FLOAT, DOUBLE, STRING, BOOLEAN, BYTES
	Unit        string
	Description string
	Minimum     string
	Maximum     string
	Writable    bool
	Cycle       int64 // milliseconds; 0: the default
	Station     int   // unit id; -1: the list does not say
	Visitor     map[string]any
}

// Refusal is a line that was not understood.
type Refusal struct {
	Line   int
	Name   string // of the point, if it has one
	Reason string
}

func (r Refusal) String() string {
	if r.Name == "" {
		return fmt.Sprintf("line %d: %s", r.Line, r.Reason)
	}
	return fmt.Sprintf("line %d (%s): %s", r.Line, r.Name, r.Reason)
}

// List is what was read.
type List struct {
	Protocol string
	Config   map[string]any // configData of the device, as far as the list has it
	Points   []Point
	Refused  []Refusal
	Notes    []string // what was assumed
}

// refuse records a line that was not understood.
func (l *List) refuse(line int, name, format string, args ...any) {
	l.Refused = append(l.Refused, Refusal{Line: line, Name: clip(name), Reason: fmt.Sprintf(format, args...)})
}

// note records an assumption, once.
func (l *List) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range l.Notes {
		if n == text {
			return
		}
	}
	l.Notes = append(l.Notes, text)
}

func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// PropertyName makes a name that manifests, topics and command lines can hold: letters, digits, '-', '_' and '.'.
func PropertyName(s string) string {
	const most = 120
	var b strings.Builder
	gap := false
	for _, r := range strings.TrimSpace(s) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '_', r == '.':
			if gap && b.Len() > 0 {
				b.WriteByte('-')
			}
			gap = false
			b.WriteRune(r)
		default:
			gap = true
		}
		if b.Len() >= most {
			break
		}
	}
	return strings.Trim(b.String(), ".-_")
}

// Check judges each point by a driver, without any I/O, and refuses those that it refuses.
func (l *List) Check(compile func(device.PointConfig) error) {
	kept := l.Points[:0]
	for _, p := range l.Points {
		typ, _ := device.ParseType(p.Type)
		err := compile(device.PointConfig{Property: p.Name, Path: "visitor", Type: typ, Writable: p.Writable, Visitor: p.Visitor})
		if err != nil {
			l.refuse(p.Line, p.Name, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		kept = append(kept, p)
	}
	l.Points = kept
}
