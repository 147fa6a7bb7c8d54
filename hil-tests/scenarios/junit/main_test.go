package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const events = `# a compiler's remark
{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/one"}
{"Action":"output","Package":"p","Test":"TestA/one","Output":"fine\n"}
{"Action":"pass","Package":"p","Test":"TestA/one","Elapsed":1.5}
{"Action":"run","Package":"p","Test":"TestA/two"}
{"Action":"output","Package":"p","Test":"TestA/two","Output":"\u001b[31mred <&>\u001b[0m\n"}
{"Action":"fail","Package":"p","Test":"TestA/two","Elapsed":2}
{"Action":"skip","Package":"p","Test":"TestA/three"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":3.5}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"p","Elapsed":4}
`

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hil", "junit.xml")
	var shown strings.Builder
	err := run(strings.NewReader(events), &shown, path)
	if err == nil || !strings.Contains(err.Error(), "2 failed") {
		t.Errorf("%v", err)
	}
	if want := "# a compiler's remark\nfine\n\x1b[31mred <&>\x1b[0m\npanic: test timed out\n"; shown.String() != want {
		t.Errorf("shown: %q", shown.String())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc suites
	if err := xml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	s := doc.Suites[0]
	if len(doc.Suites) != 1 || s.Name != "p" || s.Tests != 4 || s.Failures != 2 || s.Skipped != 1 || s.Time != "4.000" {
		t.Errorf("%s", text)
	}
	got := map[string]string{}
	for _, c := range s.Cases {
		got[c.Name] = "passed"
		if c.Failure != nil {
			got[c.Name] = c.Failure.Message + ": " + strings.TrimSpace(c.Failure.Text)
		}
		if c.Skipped != nil {
			got[c.Name] = c.Skipped.Message
		}
	}
	for name, want := range map[string]string{"TestA/one": "passed", "TestA/two": "it failed: [31mred <&>[0m", "TestA/three": "it was skipped", "TestB": "it did not end: "} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestRunEnds(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ in, want string }{
		"nothing":              {"", "there was no test"},
		"does not compile":     {`{"Action":"output","Package":"p","Output":"x.go: undefined\n"}` + "\n" + `{"Action":"fail","Package":"p"}`, "1 failed"},
		"all is well":          {`{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}`, ""},
		"a package of nothing": {`{"Action":"skip","Package":"p"}`, ""},
	} {
		err := run(strings.NewReader(c.in), &strings.Builder{}, filepath.Join(dir, "j.xml"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzConvert(f *testing.F) {
	f.Add([]byte(events))
	f.Fuzz(func(t *testing.T, in []byte) {
		doc, _, err := convert(strings.NewReader(string(in)), &strings.Builder{})
		if err == nil {
			if _, err := xml.Marshal(doc); err != nil {
				t.Error(err)
			}
		}
	})
}
