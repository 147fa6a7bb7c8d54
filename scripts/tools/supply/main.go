// Command supply answers for what the shipped binaries are made of: which modules, under which licences, and whether any of them
// has a known vulnerability.
//
//	supply -root DIR check        licences are allowed, and docs/security/dependencies.md is up to date
//	supply -root DIR list         write docs/security/dependencies.md
//	supply -root DIR sbom         write a CycloneDX document and the licence texts of each binary to build/sbom
//	supply -root DIR vulns        known vulnerabilities in code that is called, or a clear word that they could not be looked up
//
// A module's licences are those of its own folder and of the folders of the packages that are linked, up to the module's root:
// parts that somebody else wrote have theirs beside them. Licences are told by their text, not by a name that somebody gave them; a
// text that is not known counts as not allowed. What is allowed, and why, is in policy.go.
//
// Modules are those that `go list -deps` names for the binaries and platforms in policy.go: what is linked, not what go.mod mentions.
//
// # Tests
//
// Unit tests run on modules and vulnerability databases made for them; `make check` runs the command on the tree.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

// documentPath is the generated list, below the root of the checkout.
const documentPath = "docs/security/dependencies.md"

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("supply", flag.ContinueOnError)
	root := fs.String("root", ".", "root of the checkout")
	version := fs.String("version", "unknown", "version of the binaries, for the documents of sbom")
	govulncheck := fs.String("govulncheck", "", "the built govulncheck, for vulns")
	required := fs.Bool("required", false, "vulns fails if vulnerabilities cannot be looked up")
	if err := fs.Parse(args); err != nil {
		return err
	}
	verb := fs.Arg(0)
	if verb == "vulns" {
		return vulns(ctx, out, vulnOptions{root: *root, tool: *govulncheck, database: os.Getenv("GOVULNDB"), required: *required})
	}
	if verb != "check" && verb != "list" && verb != "sbom" {
		return errors.New("usage: supply [-root DIR] check|list|sbom|vulns")
	}
	modules, err := linked(ctx, *root, shipped())
	if err != nil {
		return err
	}
	if err := readLicences(modules); err != nil {
		return err
	}
	path := filepath.Join(*root, filepath.FromSlash(documentPath))
	switch verb {
	case "check":
		if err := errors.Join(judge(modules, policy()), upToDate(path, document(modules))); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "    %d modules are linked into the shipped binaries, all under licences that are allowed\n", len(modules))
		return err
	case "list":
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, document(modules), 0o644))
	default:
		return sbom(modules, filepath.Join(*root, "build", "sbom"), *version)
	}
}
