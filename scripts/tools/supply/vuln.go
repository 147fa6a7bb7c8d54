package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// defaultDatabase is the Go project's, which govulncheck asks, too, unless GOVULNDB names another one.
const defaultDatabase = "https://vuln.go.dev"

type vulnOptions struct {
	root     string // of the checkout
	tool     string // the built govulncheck
	database string // URL, https or file; default defaultDatabase
	required bool   // fail if the database cannot be had
}

// vulns looks for known vulnerabilities in code that the shipped binaries call. If the database cannot be reached it says so, and
// lists what would have been looked up: silence would look like safety.
func vulns(ctx context.Context, out io.Writer, o vulnOptions) error {
	if o.database == "" {
		o.database = defaultDatabase
	}
	if err := reachable(ctx, o.database); err != nil {
		return notChecked(ctx, out, o, err)
	}
	var patterns []string
	for _, b := range shipped() {
		patterns = append(patterns, b.pkg)
	}
	cmd := exec.CommandContext(ctx, o.tool, append([]string{"-db", o.database}, patterns...)...)
	cmd.Dir = o.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(out, &complaint)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		_, err = fmt.Fprintln(out, "    no known vulnerability in what the shipped binaries call")
		return err
	case errors.As(err, &exit) && exit.ExitCode() == 3: // govulncheck: "exits with 3 if vulnerabilities are found"
		return errors.New("known vulnerabilities are called (above): take the fixed version (go get MODULE@VERSION), or stop calling what is vulnerable")
	default:
		return fmt.Errorf("govulncheck: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
}

// notChecked tells that nothing was looked up, and what should have been.
func notChecked(ctx context.Context, out io.Writer, o vulnOptions, why error) error {
	modules, err := linked(ctx, o.root, shipped())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "    NOT CHECKED for known vulnerabilities: %v\n", why)
	fmt.Fprintf(out, "    Where the database can be reached, run `make vulns`; GOVULNDB names a mirror (https://… or file:///…).\n")
	fmt.Fprintf(out, "    Linked, and to be looked up by hand until then:\n")
	for _, m := range modules {
		fmt.Fprintf(out, "      %s %s\n", m.Path, m.Version)
	}
	if o.required {
		return fmt.Errorf("known vulnerabilities were not checked: %w", why)
	}
	return nil
}

// reachable asks for the index that every vulnerability database of the Go project's form has.
func reachable(ctx context.Context, database string) error {
	u, err := url.Parse(database)
	if err != nil {
		return fmt.Errorf("address of the vulnerability database: %w", err)
	}
	if u.Scheme == "file" {
		_, err := os.Stat(filepath.Join(filepath.FromSlash(u.Path), "index", "db.json"))
		if err != nil {
			return fmt.Errorf("vulnerability database: %w", err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("index", "db.json").String(), nil)
	if err != nil {
		return fmt.Errorf("address of the vulnerability database: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the vulnerability database cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the vulnerability database answers %s", resp.Status)
	}
	return nil
}
