package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// module is a Go module of which at least one package is linked.
type module struct {
	Path, Version string
	dir           string
	binaries      map[string]bool
	folders       map[string]bool // of the linked packages
	licences      []licence       // sorted by file
}

// names returns the SPDX identifiers of all licences, sorted.
func (m *module) names() []string {
	set := map[string]bool{}
	for _, l := range m.licences {
		for _, n := range l.names {
			set[n] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// listed is what `go list -json` says of a package.
type listed struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path, Version, Dir string }
	}
}

// linked returns the modules of all binaries, by path. The project's own is not among them.
func linked(ctx context.Context, root string, binaries []binary) ([]*module, error) {
	all := map[string]*module{}
	for _, b := range binaries {
		for _, arch := range b.arches {
			packages, err := packagesOf(ctx, root, b.pkg, arch)
			if err != nil {
				return nil, fmt.Errorf("modules of %s for %s: %w", b.name, arch, err)
			}
			for _, p := range packages {
				collect(all, b.name, p)
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *module) int { return cmp.Compare(a.Path, b.Path) }), nil
}

func packagesOf(ctx context.Context, root, pkg, arch string) (all []listed, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Module", pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOARM=7", "CGO_ENABLED=0", "GOWORK=off")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("answer of go list: %w", err)
		}
		all = append(all, p)
	}
}

func collect(all map[string]*module, binary string, p listed) {
	if p.Module == nil || p.Module.Main { // the standard library, our own
		return
	}
	path, version, dir := p.Module.Path, p.Module.Version, p.Module.Dir
	if r := p.Module.Replace; r != nil {
		path, version, dir = r.Path, r.Version, r.Dir
	}
	m := all[path]
	if m == nil {
		m = &module{Path: path, Version: version, dir: dir, binaries: map[string]bool{}, folders: map[string]bool{}}
		all[path] = m
	}
	m.binaries[binary] = true
	for d := p.Dir; ; d = filepath.Dir(d) {
		m.folders[d] = true
		if len(d) <= len(dir) {
			break
		}
	}
}
