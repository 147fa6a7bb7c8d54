// Command junit turns the output of `go test -json` into a JUnit file, and prints what the tests print as they go.
//
//	go test -json … | junit -out build/hil/junit.xml
//
// Its exit status is 1 if a test failed or the tests did not end, so that a pipe does not hide it. The file has what users of such files read: a suite for
// each package, a case for each test without subtests, with its time, and the output of those that failed. Nothing runs concurrently.
package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

func main() {
	out := flag.String("out", "junit.xml", "`file` to write")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *out); err != nil {
		fmt.Fprintln(os.Stderr, "junit:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, show io.Writer, path string) error {
	doc, failed, err := convert(in, show)
	if err != nil {
		return err
	}
	text, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("folder of the file: %w", err)
	}
	if err := os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	if failed > 0 {
		return fmt.Errorf("%d failed: %s has them", failed, path)
	}
	return nil
}

// maxOutput is what is kept of a test's output: its end.
const maxOutput = 256 << 10

type (
	suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []*suite `xml:"testsuite"`
	}
	suite struct {
		Name     string   `xml:"name,attr"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Time     string   `xml:"time,attr"`
		Cases    []*tcase `xml:"testcase"`
	}
	tcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *message `xml:"failure"`
		Skipped *message `xml:"skipped"`
	}
	message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// test is what is known of a test, or of a package, so far.
type test struct {
	pkg, name string
	output    string
	result    string // pass, fail, skip
	elapsed   float64
}

// convert reads events until the end. failed counts tests, and packages that ended without one that failed.
func convert(in io.Reader, show io.Writer) (doc *suites, failed int, err error) {
	var order []*test
	known := map[[2]string]*test{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Package == "" {
			fmt.Fprintln(show, lines.Text()) // what the compiler says
			continue
		}
		key := [2]string{e.Package, e.Test}
		t := known[key]
		if t == nil {
			t = &test{pkg: e.Package, name: e.Test}
			known[key], order = t, append(order, t)
		}
		switch e.Action {
		case "output":
			fmt.Fprint(show, e.Output)
			t.output += e.Output
			t.output = t.output[max(0, len(t.output)-maxOutput):]
		case "pass", "fail", "skip":
			t.result, t.elapsed = e.Action, e.Elapsed
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("read the tests' output: %w", err)
	}
	if len(order) == 0 {
		return nil, 0, errors.New("there was no test")
	}
	doc = &suites{}
	for _, t := range order {
		failed += doc.add(t, order)
	}
	return doc, failed, nil
}

// add adds a test to its package's suite, if it is one that is counted, and returns how many failures that is.
func (d *suites) add(t *test, all []*test) int {
	i := slices.IndexFunc(d.Suites, func(s *suite) bool { return s.Name == t.pkg })
	if i < 0 {
		i = len(d.Suites)
		d.Suites = append(d.Suites, &suite{Name: t.pkg})
	}
	s := d.Suites[i]
	failed := t.result == "fail" || t.result == ""
	within := func(x *test) bool {
		return x != t && x.pkg == t.pkg && (t.name == "" || strings.HasPrefix(x.name, t.name+"/"))
	}
	if t.name == "" {
		s.Time = fmt.Sprintf("%.3f", t.elapsed)
	}
	switch {
	case slices.ContainsFunc(all, within) && (!failed || slices.ContainsFunc(all, func(x *test) bool { return within(x) && (x.result == "fail" || x.result == "") })):
		return 0 // its parts tell
	case t.name == "" && !failed:
		return 0 // a package without tests
	}
	name := t.name
	if name == "" {
		name = "(package)"
	}
	c := &tcase{Class: t.pkg, Name: name, Time: fmt.Sprintf("%.3f", t.elapsed)}
	s.Cases = append(s.Cases, c)
	s.Tests++
	switch {
	case failed && t.result == "":
		c.Failure = &message{"it did not end", clean(t.output)}
	case failed:
		c.Failure = &message{"it failed", clean(t.output)}
	case t.result == "skip":
		s.Skipped++
		c.Skipped = &message{"it was skipped", clean(t.output)}
	}
	if failed {
		s.Failures++
		return 1
	}
	return 0
}

// clean leaves what XML may hold (XML 1.0, 2.2): a console has colours.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}
