package strict

import (
	"strings"
	"testing"
	"time"
)

// even is read in a way of its own.
type even int

func (e *even) Read(text string) string {
	if len(text)%2 != 0 {
		return "an even number of letters"
	}
	*e = even(len(text))
	return ""
}

type document struct {
	Name  string            `yaml:"name"`
	Even  even              `yaml:"even"`
	Wait  time.Duration     `yaml:"wait"`
	Parts []part            `yaml:"parts"`
	Part  *part             `yaml:"part"`
	Tags  map[string]string `yaml:"tags"`
	From  string            `yaml:"-"` // no key
}

type part struct {
	Size int  `yaml:"size"`
	On   bool `yaml:"on"`
}

func TestDecode(t *testing.T) {
	d := document{Name: "old", Parts: []part{{Size: 1}, {Size: 2}}, Part: &part{Size: 3}, Tags: map[string]string{"a": "1", "b": "2"}}
	r := Reader{File: "f.yaml"}
	if err := r.Decode([]byte("even: four\nwait: 2s\nparts: [{size: 9, on: true}]\npart: null\ntags: {a: null, c: x}\n"), &d); err != nil {
		t.Fatal(err)
	}
	if d.Name != "old" || d.Even != 4 || d.Wait != 2*time.Second || len(d.Parts) != 1 || d.Parts[0] != (part{9, true}) || d.Part != nil || len(d.Tags) != 2 || d.Tags["b"] != "2" || d.Tags["c"] != "x" {
		t.Errorf("%+v", d)
	}
}

func TestErrorsNamePlaceValueAndWhatIsAllowed(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "f.yaml: is empty",
		"a: 1\n---\nb: 2\n":                  "more than one YAML document",
		"- a":                                "is no mapping",
		"part:\n  syze: 1":                   `f.yaml:2: part.syze: "syze" is wrong: there is no such key; did you mean size? Allowed are size, on`,
		"From: x":                            "there is no such key",
		"name: a\nname: b":                   `f.yaml:2: name: "name" is wrong: the key is given twice`,
		"even: odd":                          `f.yaml:1: even: "odd" is wrong: an even number of letters`,
		"parts: [{on: yes}]":                 `parts[0].on: "yes" is wrong: allowed are true and false`,
		"parts: {}":                          "a list is needed",
		"part: [1]":                          "a mapping is needed, with the keys size, on",
		"name: &x a":                         "write the value out",
		"wait: 5":                            "a duration is needed",
		"part: {size: 1.5}":                  "a whole number is needed",
		"name: " + strings.Repeat("x", 2000): "at most 1024 bytes",
		"parts: [" + strings.Repeat("{}, ", MaxList+1) + "]": "at most 64 entries",
		strings.Repeat("#", MaxFile+1):                       "is larger than",
	} {
		r := Reader{File: "f.yaml"}
		if err := r.Decode([]byte(text), &document{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// FuzzDecode: whatever is in the file, reading it ends, and says the file's name.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: a\nparts: [{size: 1}]\npart: {on: true}\ntags: {a: b}\nwait: 1s\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := Reader{File: "f.yaml"}
		if err := r.Decode(text, &document{}); err != nil && !strings.Contains(err.Error(), "f.yaml") {
			t.Error(err)
		}
	})
}
