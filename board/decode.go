package board

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits of a board's file, so that a wrong one costs little.
const (
	maxFile  = 64 << 10
	maxList  = 64
	maxText  = 1 << 10
	maxErrs  = 20
	maxChain = 4 // files that extend one another
)

// Parse reads and checks a board's file without extends. file is what errors call it.
func Parse(file string, text []byte) (*Descriptor, error) {
	var d Descriptor
	r := reader{file: file}
	if err := r.decode(text, &d); err != nil {
		return nil, err
	}
	if d.Extends != "" {
		r.fail("extends", d.Extends, "a file that builds on another can only be read from a folder of boards")
	}
	if err := r.check(&d); err != nil {
		return nil, err
	}
	d.Source = file
	return &d, nil
}

// reader reads one document over a descriptor, and collects all that is wrong with it.
type reader struct {
	file  string
	lines map[string]int // of keys, for what check finds
	wrong []error
}

// fail notes that key has a value that it must not have. It names the file and, where it is known, the line.
func (r *reader) fail(key string, value any, allowed string) {
	where := r.file
	if line := r.line(key); line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	if len(r.wrong) < maxErrs {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %s: %q is wrong: %s", where, key, clip(fmt.Sprint(value)), allowed))
	}
}

// line finds where key stands, or the nearest key around it.
func (r *reader) line(key string) int {
	for key != "" {
		if n := r.lines[key]; n > 0 {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "…"
	}
	return s
}

func (r *reader) err() error { return errors.Join(r.wrong...) }

// decode reads the keys of text over d. What text does not name stays as it is; a list that it names takes the place of the one before.
func (r *reader) decode(text []byte, d *Descriptor) error {
	if len(text) > maxFile {
		return fmt.Errorf("%s: is larger than %d bytes", r.file, maxFile)
	}
	r.lines = map[string]int{}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: is empty", r.file)
	} else if err != nil {
		return fmt.Errorf("%s: %w", r.file, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: holds more than one YAML document", r.file)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return fmt.Errorf("%s: is no mapping of keys to values", r.file)
	}
	r.structure(doc.Content[0], reflect.ValueOf(d).Elem(), "")
	return r.err()
}

// value reads n into v. The type of v says what is allowed.
func (r *reader) value(n *yaml.Node, v reflect.Value, key string) {
	r.lines[key] = n.Line
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.fail(key, "an anchor or alias", "write the value out")
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		v.SetZero()
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		r.value(n, v.Elem(), key)
	case reflect.Struct:
		if r.is(n, yaml.MappingNode, key, "a mapping is needed, with the keys "+strings.Join(keysOf(v.Type()), ", ")) {
			r.structure(n, v, key+".")
		}
	case reflect.Slice:
		r.list(n, v, key)
	case reflect.Map:
		r.texts(n, v, key)
	default:
		if r.is(n, yaml.ScalarNode, key, "one value is needed") {
			r.scalar(n.Value, v, key)
		}
	}
}

func (r *reader) is(n *yaml.Node, kind yaml.Kind, key, allowed string) bool {
	if n.Kind != kind {
		r.fail(key, map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: n.Value}[n.Kind], allowed)
	}
	return n.Kind == kind
}

// structure reads a mapping. prefix is empty or ends with a dot.
func (r *reader) structure(n *yaml.Node, v reflect.Value, prefix string) {
	known := keysOf(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		key := prefix + clip(name)
		r.lines[key] = n.Content[i].Line
		field := slices.Index(known, name)
		switch {
		case field < 0:
			r.unknown(key, name, known)
		case seen[name]:
			r.fail(key, name, "the key is given twice")
		default:
			r.value(n.Content[i+1], v.Field(field), key)
		}
		seen[name] = true
	}
}

func (r *reader) unknown(key, name string, known []string) {
	allowed := "there is no such key; allowed are " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		allowed = fmt.Sprintf("there is no such key; did you mean %s? Allowed are %s", near, strings.Join(known, ", "))
	}
	r.fail(key, name, allowed)
}

func (r *reader) list(n *yaml.Node, v reflect.Value, key string) {
	if !r.is(n, yaml.SequenceNode, key, "a list is needed") {
		return
	}
	if len(n.Content) > maxList {
		r.fail(key, len(n.Content), fmt.Sprintf("at most %d entries are allowed", maxList))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		r.value(item, out.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(out)
}

// texts reads a mapping of texts to texts over the one that is there.
func (r *reader) texts(n *yaml.Node, v reflect.Value, key string) {
	if !r.is(n, yaml.MappingNode, key, "a mapping is needed") {
		return
	}
	if len(n.Content) > 2*maxList {
		r.fail(key, len(n.Content)/2, fmt.Sprintf("at most %d entries are allowed", maxList))
		return
	}
	out := reflect.MakeMap(v.Type())
	for it := v.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		at := key + "." + clip(name)
		r.lines[at] = n.Content[i].Line
		switch {
		case value.Kind != yaml.ScalarNode:
			r.fail(at, "a list or a mapping", "a text is needed")
		case value.Tag == "!!null":
			out.SetMapIndex(reflect.ValueOf(name), reflect.Value{})
		default:
			out.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(value.Value))
		}
	}
	v.Set(out)
}

func (r *reader) scalar(text string, v reflect.Value, key string) {
	if len(text) > maxText {
		r.fail(key, text, fmt.Sprintf("at most %d bytes are allowed", maxText))
		return
	}
	switch v.Interface().(type) {
	case Size:
		if n, ok := parseSize(text); ok {
			v.SetInt(int64(n))
			return
		}
		r.fail(key, text, "allowed are bytes, or a number with Ki, Mi or Gi, as 64Mi")
	case time.Duration:
		if d, err := time.ParseDuration(text); err == nil {
			v.SetInt(int64(d))
			return
		}
		r.fail(key, text, "a duration is needed, as 15s or 1m30s")
	case int:
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			v.SetInt(n)
			return
		}
		r.fail(key, text, "a whole number is needed")
	case bool:
		if text != "true" && text != "false" {
			r.fail(key, text, "allowed are true and false")
		}
		v.SetBool(text == "true")
	default:
		v.SetString(text)
	}
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

// keysOf lists the keys of a structure, in the order of its fields.
func keysOf(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		out[i] = t.Field(i).Tag.Get("yaml")
	}
	if last := len(out) - 1; last >= 0 && out[last] == "-" {
		out = out[:last]
	}
	return out
}

// nearest is the name that was probably meant; empty if none is near.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's, in bytes: keys are ASCII.
func distance(a, b string) int {
	if len(a) > maxText {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
