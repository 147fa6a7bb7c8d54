package image

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Package is one Debian package in a lock file.
type Package struct {
	Name, Version, Arch string
	SHA256              string
}

// File is what apt calls it.
func (p Package) File() string {
	return p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + p.Arch + ".deb"
}

const maxLock = 1 << 20

var (
	debName    = regexp.MustCompile(`^[a-z0-9][-a-z0-9+.]{1,127}$`)
	debVersion = regexp.MustCompile(`^[A-Za-z0-9.+:~-]{1,128}$`)
	debMachine = regexp.MustCompile(`^(all|armhf|arm64|amd64)$`)
	hexHash    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// WriteLock writes a lock file: a line for each package, by name.
func WriteLock(w io.Writer, list []Package) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	if _, err := fmt.Fprintln(w, "# Debian packages of an image: name, version, architecture, SHA-256 of the .deb. `make image LOCK=THIS_FILE` builds with these."); err != nil {
		return err
	}
	for _, p := range list {
		if _, err := fmt.Fprintln(w, p.Name, p.Version, p.Arch, p.SHA256); err != nil {
			return err
		}
	}
	return nil
}

// ReadLock reads a lock file.
func ReadLock(r io.Reader) ([]Package, error) {
	var list []Package
	seen := map[string]bool{}
	s := bufio.NewScanner(io.LimitReader(r, maxLock))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 || !debName.MatchString(f[0]) || !debVersion.MatchString(f[1]) || !debMachine.MatchString(f[2]) || !hexHash.MatchString(f[3]) {
			return nil, fmt.Errorf("line %d of the lock file is not NAME VERSION ARCHITECTURE SHA256: %.100q", n, line)
		}
		if seen[f[0]] {
			return nil, fmt.Errorf("line %d of the lock file names %s a second time", n, f[0])
		}
		seen[f[0]] = true
		list = append(list, Package{Name: f[0], Version: f[1], Arch: f[2], SHA256: f[3]})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read the lock file: %w", err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the lock file names no package")
	}
	return list, nil
}
