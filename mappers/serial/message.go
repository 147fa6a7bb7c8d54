package serial

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// message is one frame on its way to all points that may want it; what several of them need is worked out once. The bytes are
// valid until the frame's callback returns.
type message struct {
	raw []byte

	jsonDone bool
	json     any
	jsonErr  error

	nmeaDone bool
	nmea     sentence
	nmeaErr  error

	cells     []string
	cellsDone byte // the separator that cells were cut with
}

// parser takes a value out of a message. errOther means that the message is not for this point; any other error that it is, and
// has no value.
type parser interface {
	parse(m *message) (device.Value, error)
	String() string
}

// otherError says why a message is not for a point.
type otherError struct{ why string }

func (e *otherError) Error() string { return e.why }

func other(format string, args ...any) error { return &otherError{fmt.Sprintf(format, args...)} }

func isOther(err error) bool {
	var o *otherError
	return errors.As(err, &o)
}

// wholeParser takes the whole frame.
type wholeParser struct{ text textFormat }

func (p *wholeParser) String() string { return "the whole frame" }

func (p *wholeParser) parse(m *message) (device.Value, error) { return p.text.value(string(m.raw)) }

// fieldParser takes a field of a binary frame.
type fieldParser struct{ field }

func (p *fieldParser) String() string { return fmt.Sprintf("bytes at offset %d", p.offset) }

func (p *fieldParser) parse(m *message) (device.Value, error) { return p.read(m.raw) }

// cellParser takes a column of separated values (RFC 4180).
type cellParser struct {
	column    int // from 1
	separator byte
	text      textFormat
}

func (p *cellParser) String() string { return fmt.Sprintf("column %d", p.column) }

func (p *cellParser) parse(m *message) (device.Value, error) {
	if m.cellsDone != p.separator {
		m.cells, m.cellsDone = splitCells(string(m.raw), p.separator), p.separator
	}
	if p.column > len(m.cells) {
		return device.Value{}, other("%s has %d columns", visible(m.raw), len(m.cells))
	}
	return p.text.value(m.cells[p.column-1])
}

// splitCells cuts a line at the separator, but not within double quotes; a doubled quote within quotes is one.
func splitCells(line string, separator byte) []string {
	var out []string
	var cell strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"' && quoted && i+1 < len(line) && line[i+1] == '"':
			cell.WriteByte('"')
			i++
		case c == '"' && (quoted || strings.TrimSpace(cell.String()) == ""):
			if !quoted {
				cell.Reset()
			}
			quoted = !quoted
		case c == separator && !quoted:
			out = append(out, cell.String())
			cell.Reset()
		default:
			cell.WriteByte(c)
		}
	}
	return append(out, cell.String())
}

// step is one step of a JSON path: a key, or an index.
type step struct {
	key   string
	index int
	array bool
}

// jsonParser takes a value out of a JSON text.
type jsonParser struct {
	path  []step
	shown string
	text  textFormat
}

func (p *jsonParser) String() string { return "JSON path " + p.shown }

func (p *jsonParser) parse(m *message) (device.Value, error) {
	if !m.jsonDone {
		m.jsonDone = true
		dec := json.NewDecoder(bytes.NewReader(m.raw))
		dec.UseNumber()
		if m.jsonErr = dec.Decode(&m.json); m.jsonErr == nil {
			if _, err := dec.Token(); !errors.Is(err, io.EOF) {
				m.jsonErr = errors.New("something follows the JSON text")
			}
		}
	}
	if m.jsonErr != nil {
		return device.Value{}, other("%s is not JSON: %v", visible(m.raw), m.jsonErr)
	}
	at := m.json
	for _, s := range p.path {
		ok := false
		if s.array {
			var list []any
			if list, ok = at.([]any); ok {
				if ok = s.index < len(list); ok {
					at = list[s.index]
				}
			}
		} else {
			var object map[string]any
			if object, ok = at.(map[string]any); ok {
				at, ok = object[s.key]
			}
		}
		if !ok {
			return device.Value{}, other("there is no %s in %s", p.shown, visible(m.raw))
		}
	}
	return p.value(at)
}

func (p *jsonParser) value(v any) (device.Value, error) {
	switch v := v.(type) {
	case nil:
		return device.Value{}, fmt.Errorf("%s is null", p.shown)
	case bool:
		if p.text.typ == device.TypeBoolean || p.text.typ == device.TypeInt {
			return device.Bool(v), nil
		}
		return p.text.value(fmt.Sprint(v))
	case json.Number:
		if p.text.typ == device.TypeBoolean && p.text.trueText == "" && p.text.falseText == "" {
			f, err := v.Float64()
			return device.Bool(f != 0), err
		}
		return p.text.value(v.String())
	case string:
		return p.text.value(v)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return device.Value{}, fmt.Errorf("%s: %w", p.shown, err)
		}
		return p.text.value(string(b))
	}
}

// maxSteps bounds a JSON path.
const maxSteps = 16

// parsePath reads a path like "sensors[2].temp": keys with dots between them, indices from 0 in brackets.
func parsePath(s string) ([]step, error) {
	var out []step
	rest := strings.TrimPrefix(strings.TrimPrefix(s, "$"), ".")
	for rest != "" {
		if len(out) == maxSteps {
			return nil, fmt.Errorf("has more than %d steps", maxSteps)
		}
		if after, ok := strings.CutPrefix(rest, "["); ok {
			digits, tail, found := strings.Cut(after, "]")
			var n int
			if _, err := fmt.Sscanf(digits+";", "%d;", &n); err != nil || !found || n < 0 {
				return nil, errors.New("has a bracket without an index from 0 in it")
			}
			out, rest = append(out, step{index: n, array: true}), tail
		} else {
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, errors.New("has an empty key")
			}
			out, rest = append(out, step{key: rest[:end]}), rest[end:]
		}
		if after, ok := strings.CutPrefix(rest, "."); ok {
			if rest = after; rest == "" {
				return nil, errors.New("ends with a dot")
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("is empty")
	}
	return out, nil
}
