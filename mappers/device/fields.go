package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Fields reads free-form configData. Each getter looks its field up under any of the names given (case is ignored),
// coerces it and records what is wrong; Err returns all of that at once, with fields that nobody asked for. A Fields
// is used by one goroutine and thrown away.
type Fields struct {
	path string
	data map[string]any
	keys []string // of data, sorted
	used []bool   // by key
	errs []error
}

// NewFields starts reading data, which stands at path in the manifest. data may be nil and is not changed.
func NewFields(path string, data map[string]any) *Fields {
	keys := make([]string, 0, len(data))
	for k := range data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return &Fields{path: path, data: data, keys: keys, used: make([]bool, len(keys))}
}

// Fail records a problem with a field that has been read. Of several problems of a field the first one counts: what is said of a value that could
// not be read only confuses.
func (f *Fields) Fail(name string, value any, problem, allowed string) {
	field := f.path + "." + name
	for _, err := range f.errs {
		var known *FieldError
		if errors.As(err, &known) && strings.EqualFold(known.Field, field) {
			return
		}
	}
	f.errs = append(f.errs, &FieldError{Field: field, Value: value, Problem: problem, Allowed: allowed})
}

// Clean tells that Err would find nothing wrong. A gateway compiles a hundred thousand visitors that are right: none of them needs the
// list of known fields.
func (f *Fields) Clean() bool { return len(f.errs) == 0 && !slices.Contains(f.used, false) }

// Err joins all problems found, one *FieldError each; nil if there are none.
func (f *Fields) Err(known []FieldDoc) error {
	names := make([]string, 0, len(known))
	for _, d := range known {
		names = append(names, d.Name)
	}
	for i, k := range f.keys {
		if !f.used[i] {
			f.Fail(clip(k), nil, "unknown field", strings.Join(names, ", "))
		}
	}
	return errors.Join(f.errs...)
}

// Ignore accepts fields that have no meaning here.
func (f *Fields) Ignore(names ...string) {
	for _, n := range names {
		f.lookup(n)
	}
}

// lookup returns the first field present, and the name that it has in the manifest. A field that is null or an empty
// string counts as missing: tools write those for what the user left out.
func (f *Fields) lookup(names ...string) (name string, v any, ok bool) {
	for i, k := range f.keys {
		for _, n := range names {
			if !strings.EqualFold(k, n) {
				continue
			}
			f.used[i] = true
			got := f.data[k]
			if got == nil || got == "" {
				continue
			}
			if ok && fmt.Sprint(got) != fmt.Sprint(v) {
				f.Fail(k, got, "contradicts "+name+", which means the same", "one of the two")
				continue
			}
			name, v, ok = k, got, true
		}
	}
	return name, v, ok
}

// Has tells whether a field is present, under any of the names.
func (f *Fields) Has(names ...string) bool {
	_, _, ok := f.lookup(names...)
	return ok
}

// Require records a missing field.
func (f *Fields) Require(allowed string, names ...string) {
	if !f.Has(names...) {
		f.Fail(names[0], nil, "is missing", allowed)
	}
}

// Int reads a whole number within [low, high].
func (f *Fields) Int(def, low, high int64, names ...string) int64 {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	n, ok := toInt(v)
	if ok && n >= low && n <= high {
		return n
	}
	problem := "is out of range"
	if !ok {
		problem = "is not a whole number"
	}
	f.Fail(name, v, problem, fmt.Sprintf("a whole number from %d to %d", low, high))
	return def
}

// Float reads a finite number.
func (f *Fields) Float(def float64, names ...string) float64 {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	n, ok := toFloat(v)
	if !ok {
		f.Fail(name, v, "is not a number", "a finite number")
		return def
	}
	return n
}

// Bool reads true or false.
func (f *Fields) Bool(def bool, names ...string) bool {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "1", "yes", "on":
		return true
	case "false", "0", "no", "off":
		return false
	}
	f.Fail(name, v, "is neither true nor false", "true, false")
	return def
}

// Text reads a string; numbers are taken as they are written.
func (f *Fields) Text(def string, names ...string) string {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	switch s := v.(type) {
	case string:
		return strings.TrimSpace(s)
	case map[string]any, []any, []byte:
		f.Fail(name, v, "is not a string", "a string")
		return def
	default:
		return fmt.Sprint(s)
	}
}

// Choice reads one of the words of table (keys in lower case; the comparison ignores case, '-', '_' and blanks), and
// returns what the table says for it. allowed are the words to name in the message.
func Choice[T any](f *Fields, def T, table map[string]T, allowed []string, names ...string) T {
	name, v, ok := f.lookup(names...)
	if !ok {
		return def
	}
	got, ok := table[word(v)]
	if !ok {
		f.Fail(name, v, "is not known", strings.Join(allowed, ", "))
		return def
	}
	return got
}

// word is how Choice compares.
func word(v any) string {
	text, ok := v.(string)
	if !ok {
		text = fmt.Sprint(v)
	}
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}

// toInt coerces what MessagePack, JSON and YAML decoders produce for a whole number, strings included ("1", "0x10").
func toInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int8:
		return int64(n), true
	case int16:
		return int64(n), true
	case int32:
		return int64(n), true
	case int64:
		return n, true
	case uint8:
		return int64(n), true
	case uint16:
		return int64(n), true
	case uint32:
		return int64(n), true
	case uint:
		return int64(n), uint64(n) <= math.MaxInt64
	case uint64:
		return int64(n), n <= math.MaxInt64
	case float32:
		return toInt(float64(n))
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	case json.Number:
		return toInt(n.String())
	case string:
		text := strings.TrimSpace(n)
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, true
		}
		if i, err := strconv.ParseInt(text, 0, 64); err == nil && strings.HasPrefix(strings.ToLower(text), "0x") {
			return i, true
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return toInt(f)
		}
	}
	return 0, false
}

func toFloat(v any) (float64, bool) {
	var out float64
	switch n := v.(type) {
	case float32:
		out = float64(n)
	case float64:
		out = n
	case uint64:
		out = float64(n)
	case json.Number:
		return toFloat(n.String())
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
		if err != nil {
			return 0, false
		}
		out = f
	default:
		i, ok := toInt(v)
		if !ok {
			return 0, false
		}
		out = float64(i)
	}
	return out, !math.IsNaN(out) && !math.IsInf(out, 0)
}
