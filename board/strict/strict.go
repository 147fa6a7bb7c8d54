// Package strict reads small YAML files that people write by hand into structs, and says of each mistake where it is, what stands there and what is
// allowed: unknown keys (and what was probably meant), keys given twice, values of another type, anchors, files and lists that are too long. It is for boards
// and rig files.
//
//	r := strict.Reader{File: "acme-3.yaml"}
//	if err := r.Decode(text, &board); err != nil { … }
//	if board.Name == "" {
//		r.Fail("name", board.Name, "a name is needed")
//	}
//	return r.Err()
//
// Errors are told 20 at most. A Reader is used by one goroutine.
package strict

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

// Limits of a file, so that a wrong one costs little: its bytes, the entries of a list, the bytes of a value.
const (
	MaxFile = 64 << 10
	MaxList = 64
	MaxText = 1 << 10
	maxErrs = 20
)

// Reader reads one document and collects all that is wrong with it. File is what errors call it; the zero value of the rest is ready for use.
type Reader struct {
	File  string
	lines map[string]int // of keys, for what is found wrong with values later
	wrong []error
}

// Scalar is implemented by pointers to types that are read from one value in a way of their own. Read returns what is allowed; empty if text is.
type Scalar interface {
	Read(text string) (allowed string)
}

// Fail notes that key has a value that it must not have. It names the file and, where it is known, the line.
func (r *Reader) Fail(key string, value any, allowed string) {
	where := r.File
	if line := r.line(key); line > 0 {
		where += ":" + strconv.Itoa(line)
	}
	if len(r.wrong) < maxErrs {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %s: %q is wrong: %s", where, key, Clip(fmt.Sprint(value)), allowed))
	}
}

// line finds where key stands, or the nearest key around it.
func (r *Reader) line(key string) int {
	for key != "" {
		if n := r.lines[key]; n > 0 {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// Clip shortens what an error quotes.
func Clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "…"
	}
	return s
}

// Err returns all that is wrong, nil if nothing is.
func (r *Reader) Err() error { return errors.Join(r.wrong...) }

// Decode reads the keys of text into the struct that into points to, whose fields' tags yaml name all keys. What text does not name stays as it is; a list
// that it names takes the place of the one before, and null takes away what was there.
func (r *Reader) Decode(text []byte, into any) error {
	if len(text) > MaxFile {
		return fmt.Errorf("%s: is larger than %d bytes", r.File, MaxFile)
	}
	r.lines = map[string]int{}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: is empty", r.File)
	} else if err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: holds more than one YAML document", r.File)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return fmt.Errorf("%s: is no mapping of keys to values", r.File)
	}
	r.structure(doc.Content[0], reflect.ValueOf(into).Elem(), "")
	return r.Err()
}

// value reads n into v. The type of v says what is allowed.
func (r *Reader) value(n *yaml.Node, v reflect.Value, key string) {
	r.lines[key] = n.Line
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		r.Fail(key, "an anchor or alias", "write the value out")
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
		if r.is(n, yaml.MappingNode, key, "a mapping is needed, with the keys "+strings.Join(Keys(v.Type()), ", ")) {
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

func (r *Reader) is(n *yaml.Node, kind yaml.Kind, key, allowed string) bool {
	if n.Kind != kind {
		r.Fail(key, map[yaml.Kind]string{yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: n.Value}[n.Kind], allowed)
	}
	return n.Kind == kind
}

// structure reads a mapping. prefix is empty or ends with a dot.
func (r *Reader) structure(n *yaml.Node, v reflect.Value, prefix string) {
	known := Keys(v.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		key := prefix + Clip(name)
		r.lines[key] = n.Content[i].Line
		field := slices.Index(known, name)
		switch {
		case field < 0:
			r.unknown(key, name, known)
		case seen[name]:
			r.Fail(key, name, "the key is given twice")
		default:
			r.value(n.Content[i+1], v.Field(field), key)
		}
		seen[name] = true
	}
}

func (r *Reader) unknown(key, name string, known []string) {
	allowed := "there is no such key; allowed are " + strings.Join(known, ", ")
	if near := Nearest(name, known); near != "" {
		allowed = fmt.Sprintf("there is no such key; did you mean %s? Allowed are %s", near, strings.Join(known, ", "))
	}
	r.Fail(key, name, allowed)
}

func (r *Reader) list(n *yaml.Node, v reflect.Value, key string) {
	if !r.is(n, yaml.SequenceNode, key, "a list is needed") {
		return
	}
	if len(n.Content) > MaxList {
		r.Fail(key, len(n.Content), fmt.Sprintf("at most %d entries are allowed", MaxList))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		r.value(item, out.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
	v.Set(out)
}

// texts reads a mapping of texts to texts over the one that is there.
func (r *Reader) texts(n *yaml.Node, v reflect.Value, key string) {
	if !r.is(n, yaml.MappingNode, key, "a mapping is needed") {
		return
	}
	if len(n.Content) > 2*MaxList {
		r.Fail(key, len(n.Content)/2, fmt.Sprintf("at most %d entries are allowed", MaxList))
		return
	}
	out := reflect.MakeMap(v.Type())
	for it := v.MapRange(); it.Next(); {
		out.SetMapIndex(it.Key(), it.Value())
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		at := key + "." + Clip(name)
		r.lines[at] = n.Content[i].Line
		switch {
		case value.Kind != yaml.ScalarNode:
			r.Fail(at, "a list or a mapping", "a text is needed")
		case value.Tag == "!!null":
			out.SetMapIndex(reflect.ValueOf(name), reflect.Value{})
		default:
			out.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(value.Value))
		}
	}
	v.Set(out)
}

func (r *Reader) scalar(text string, v reflect.Value, key string) {
	if len(text) > MaxText {
		r.Fail(key, text, fmt.Sprintf("at most %d bytes are allowed", MaxText))
		return
	}
	if own, ok := v.Addr().Interface().(Scalar); ok {
		if allowed := own.Read(text); allowed != "" {
			r.Fail(key, text, allowed)
		}
		return
	}
	switch v.Interface().(type) {
	case time.Duration:
		if d, err := time.ParseDuration(text); err == nil {
			v.SetInt(int64(d))
			return
		}
		r.Fail(key, text, "a duration is needed, as 15s or 1m30s")
	case int:
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			v.SetInt(n)
			return
		}
		r.Fail(key, text, "a whole number is needed")
	case bool:
		if text != "true" && text != "false" {
			r.Fail(key, text, "allowed are true and false")
		}
		v.SetBool(text == "true")
	default:
		v.SetString(text)
	}
}

// Keys lists the keys of a structure, in the order of its fields.
func Keys(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		out[i] = t.Field(i).Tag.Get("yaml")
	}
	if last := len(out) - 1; last >= 0 && out[last] == "-" {
		out = out[:last]
	}
	return out
}

// Nearest is the name that was probably meant; empty if none is near.
func Nearest(name string, known []string) string {
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
	if len(a) > MaxText {
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
