package skerry_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest is how docs/security/threat-model.md names a test: `FOLDER#TestName` or `FOLDER#TestName/sub/sub`.
var namedTest = regexp.MustCompile("`([a-z0-9./-]+)#((?:Test|Fuzz)[A-Za-z0-9_]*)((?:/[a-z0-9-]+)*)`")

func testSources(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// TestThreatModelNamesTests holds the threat model to the tests that exist, and the attempts of hil-tests/attack to the threat model.
func TestThreatModelNamesTests(t *testing.T) {
	b, err := os.ReadFile("docs/security/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	sources := map[string]string{}
	named := 0
	for _, m := range namedTest.FindAllStringSubmatch(doc, -1) {
		dir, name, subs := m[1], m[2], strings.Split(m[3], "/")[1:]
		named++
		if _, read := sources[dir]; !read {
			sources[dir] = testSources(t, dir)
		}
		if !strings.Contains(sources[dir], "\nfunc "+name+"(") {
			t.Errorf("%s#%s does not exist", dir, name)
		}
		for _, sub := range subs {
			if !strings.Contains(sources[dir], `"`+sub+`"`) {
				t.Errorf("%s#%s has no %q", dir, name, sub)
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named: is their form still %s?", named, namedTest)
	}
	attempt := regexp.MustCompile(`\n\t\t\{"([a-z0-9-]+)", try`)
	attempts := attempt.FindAllStringSubmatch(testSources(t, "hil-tests/attack"), -1)
	if len(attempts) < 40 {
		t.Errorf("only %d attempts were found", len(attempts))
	}
	for _, a := range attempts {
		if !strings.Contains(doc, "/"+a[1]+"`") {
			t.Errorf("the threat model does not name the attempt %s", a[1])
		}
	}
}

// TestThreatsAreComplete wants each threat to have an id of its own, a class, all columns, and a test or the reason why there is none.
func TestThreatsAreComplete(t *testing.T) {
	b, err := os.ReadFile("docs/security/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\| ([A-Z]-\d\d) \| ((?:[STRIDE] ?)+) \|`)
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if seen[m[1]] {
			t.Errorf("%s is there twice", m[1])
		}
		seen[m[1]] = true
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 6 {
			t.Errorf("%s has %d columns, want 6", m[1], len(cells))
			continue
		}
		for i, c := range cells {
			if strings.TrimSpace(c) == "" {
				t.Errorf("%s: column %d is empty", m[1], i+1)
			}
		}
		if last := cells[5]; !namedTest.MatchString(last) && !strings.HasPrefix(strings.TrimSpace(last), "not ") {
			t.Errorf("%s names neither a test nor why there is none: %q", m[1], last)
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d threats were found", len(seen))
	}
}
