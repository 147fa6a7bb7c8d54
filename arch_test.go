package skerry_test

import (
	"encoding/json"
	"errors"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/skerry/skerry"

type goPackage struct {
	ImportPath   string
	Name         string
	Dir          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func goList(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatalf("go list %v named no package", args)
	}
	return all
}

// under says whether an import path is folder or lies below it. Folders are relative to the module unless they have a dot.
func under(importPath string, folders ...string) bool {
	for _, f := range folders {
		if !strings.Contains(strings.SplitN(f, "/", 2)[0], ".") {
			f = module + "/" + f
		}
		if importPath == f || strings.HasPrefix(importPath, f+"/") {
			return true
		}
	}
	return false
}

// TestImportDirections holds the tree to: contracts ← pure logic ← adapters ← cmd.
func TestImportDirections(t *testing.T) {
	rules := []struct {
		of     []string // packages the rule is about
		never  []string // what they must not import
		except []string
		why    string
	}{
		{of: []string{"firmware"}, never: []string{"relay", "hil-tests"}, why: "the agent must build without the cloud's side"},
		{of: []string{"relay"}, never: []string{"hil-tests", "mappers", "board"}, except: []string{"mappers/pointlist"}, why: "the relay knows nothing of drivers and boards (pointlist: files into manifests, for the operator)"},
		{of: []string{"relay"}, never: []string{"firmware"}, except: []string{"firmware/wire", "firmware/link/linktest"}, why: "the wire is the one contract both sides share (linktest: the models that both ends are tested with)"},
		{of: []string{"mappers"}, never: []string{"firmware", "relay", "board", "hil-tests"}, why: "a driver must be usable and testable alone"},
		{of: []string{"board"}, never: []string{"firmware", "relay", "mappers", "hil-tests"}, why: "board is a contract"},
		{of: []string{"firmware/wire"}, never: []string{"firmware"}, except: []string{"firmware/wire"}, why: "wire is a contract"},
		{of: []string{"firmware/twin"}, never: []string{"firmware", "net", "os"}, except: []string{"firmware/twin", "firmware/wire"}, why: "twin is pure logic without I/O"},
		{of: []string{"firmware/pods"}, never: []string{"firmware/devices", "firmware/link", "firmware/store", "firmware/agent"}, why: "features declare what they use; only wiring sees concrete types"},
		{of: []string{"firmware/devices"}, never: []string{"firmware/pods", "firmware/link", "firmware/store", "firmware/agent", "firmware/mqtt", "mappers/modbus", "mappers/all"}, why: "features declare what they use; drivers come through the table"},
		{of: []string{"firmware/push"}, never: []string{"firmware/pods", "firmware/link", "firmware/store", "firmware/agent", "firmware/devices"}, why: "features declare what they use; only wiring sees concrete types"},
		{of: []string{"firmware/mqtt"}, never: []string{"firmware/pods", "firmware/link", "firmware/store", "firmware/agent", "mappers/all"}, why: "features declare what they use; only wiring sees concrete types"},
		{of: []string{"firmware/link"}, never: []string{"firmware/store", "firmware/pods", "firmware/devices"}, why: "the link declares what it needs of a store"},
		{of: []string{"firmware/store"}, never: []string{"firmware/link", "firmware/pods", "firmware/devices"}, why: "the store serves, it does not know whom"},
		{of: []string{"relay/session"}, never: []string{"net", "relay/kube", "relay/hub", "k8s.io"}, why: "the session machine is sans-I/O"},
		{of: []string{"relay/hub"}, never: []string{"relay/kube", "k8s.io"}, why: "the hub declares Source and Sink; kube implements them"},
		{of: []string{"firmware", "mappers", "board"}, never: []string{"k8s.io", "sigs.k8s.io", "google.golang.org/grpc"}, why: "the agent pays for every byte"},
	}
	for _, p := range goList(t, "./firmware/...", "./relay/...", "./mappers/...", "./board/...") {
		for _, r := range rules {
			if !under(p.ImportPath, r.of...) {
				continue
			}
			for _, imp := range p.Imports {
				if under(imp, r.never...) && !under(imp, r.except...) || slices.Contains(r.never, imp) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, r.why)
				}
			}
		}
	}
}

// TestSkerrydLinks holds the agent's whole dependency tree to what a small gateway can pay for.
func TestSkerrydLinks(t *testing.T) {
	banned := map[string]string{
		"k8s.io":                     "client-go and the API types cost 9 MB of memory; the agent has structs of its own",
		"sigs.k8s.io":                "see k8s.io",
		"google.golang.org/grpc":     "CRI's gRPC is spoken over net/http",
		"google.golang.org/protobuf": "CRI messages are hand-written",
		"github.com/gogo/protobuf":   "CRI messages are hand-written",
		"github.com/spf13/cobra":     "the agent has few verbs",
		module + "/relay":            "the agent must build without the cloud's side",
		module + "/hil-tests":        "tests do not ship",
		"testing":                    "tests do not ship",
		"runtime/cgo":                "no libc on the gateway is ours to rely on",
	}
	for _, arch := range []string{"arm", "arm64", "amd64"} {
		t.Setenv("GOARCH", arch)
		for _, p := range goList(t, "./firmware/cmd/skerryd") {
			if len(p.Deps) < 50 {
				t.Fatalf("%s: only %d dependencies listed; go list is not telling the truth", arch, len(p.Deps))
			}
			for _, dep := range p.Deps {
				for ban, why := range banned {
					if dep == ban || strings.HasPrefix(dep, ban+"/") && ban != "testing" {
						t.Errorf("skerryd for %s links %s: %s", arch, dep, why)
					}
				}
			}
		}
	}
}

// TestPackageNames keeps out the names that say nothing.
func TestPackageNames(t *testing.T) {
	banned := []string{"util", "utils", "common", "types", "helper", "helpers", "manager", "misc", "base"}
	for _, p := range goList(t, "./...") {
		if slices.Contains(banned, p.Name) || slices.Contains(banned, path.Base(p.ImportPath)) {
			t.Errorf("package %s: the name %q says nothing about what is in it", p.ImportPath, p.Name)
		}
	}
}

// TestPackageDocs wants every package to say what it is for.
func TestPackageDocs(t *testing.T) {
	checked := 0
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return nil
		}
		if name := d.Name(); dir != "." && (strings.HasPrefix(name, ".") || name == "build" || name == "testdata" || name == "node_modules") {
			return filepath.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return err
		}
		var text string
		sources := 0
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			sources++
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				return err
			}
			if parsed.Doc != nil {
				text += parsed.Doc.Text()
			}
		}
		if sources == 0 {
			return nil
		}
		checked++
		if s := new(doc.Package).Synopsis(text); len(s) < 30 {
			t.Errorf("%s: package doc is missing or says too little: %q", dir, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 3 {
		t.Fatalf("only %d packages found", checked)
	}
}

// TestNoVerificationSwitchedOff holds the one setting that switches TLS verification off to the one place that may have it, and what is in that place to
// its one user (docs/adr/0011).
func TestNoVerificationSwitchedOff(t *testing.T) {
	const exception, user = "firmware/pods/unproven.go", "firmware/pods/httpget.go"
	setting, dialer := "Insecure"+"SkipVerify", "dial"+"Unproven"
	read := 0
	err := filepath.WalkDir(".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == ".git" || name == "node_modules" || at == "build") {
			return filepath.SkipDir
		}
		if d.IsDir() || path.Ext(at) != ".go" {
			return nil
		}
		text, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		read++
		switch n := strings.Count(string(text), setting); {
		case at == exception && n != 1:
			t.Errorf("%s has %s %d times, want once", at, setting, n)
		case at != exception && n != 0:
			t.Errorf("%s has %s: every TLS peer proves itself", at, setting)
		}
		switch n := strings.Count(string(text), dialer); {
		case at == user && n != 1:
			t.Errorf("%s uses %s %d times, want once", at, dialer, n)
		case at != user && at != exception && n != 0 && !(strings.HasPrefix(at, path.Dir(user)+"/") && strings.HasSuffix(at, "_test.go")):
			t.Errorf("%s uses %s, which is for probes and hooks only", at, dialer)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 500 {
		t.Fatalf("only %d files were read", read)
	}
}
