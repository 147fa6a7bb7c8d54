package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licence is one licence file, and what is said in it.
type licence struct {
	file  string   // relative to the module's folder
	names []string // SPDX identifiers of all texts in it, sorted; none: no text is known
	text  string
}

// licenceFile tells the files that hold licences by their names. NOTICE and PATENTS go beside them but are none.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|unlicense)([-_.].*)?$`)

var noticeFile = regexp.MustCompile(`(?i)^(notice|patents)([-_.].*)?$`)

// readLicences fills in the licences of modules.
func readLicences(modules []*module) error {
	for _, m := range modules {
		for _, folder := range slices.Sorted(maps.Keys(m.folders)) {
			entries, err := os.ReadDir(folder)
			if err != nil {
				return fmt.Errorf("licences of %s: %w", m.Path, err)
			}
			for _, e := range entries {
				if e.IsDir() || !licenceFile.MatchString(e.Name()) && !noticeFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
					continue
				}
				text, err := os.ReadFile(filepath.Join(folder, e.Name()))
				if err != nil {
					return fmt.Errorf("licences of %s: %w", m.Path, err)
				}
				rel, err := filepath.Rel(m.dir, filepath.Join(folder, e.Name()))
				if err != nil {
					return fmt.Errorf("licences of %s: %w", m.Path, err)
				}
				l := licence{file: filepath.ToSlash(rel), text: string(text)}
				if licenceFile.MatchString(e.Name()) {
					l.names = classify(l.text)
				}
				m.licences = append(m.licences, l)
			}
		}
	}
	return nil
}

// mark tells a licence by what its text, and none of the others, says.
type mark struct {
	name string
	all  []string // all of these occur
	none []string // and none of these
}

// marks are matched against normal text. A text may bear several.
func marks() []mark {
	const bsd, endorse, advertise = "redistribution and use in source and binary forms", "to endorse or promote products", "all advertising materials"
	const isc, provided = "distribute this software for any purpose with or without fee is hereby granted", "provided that the above copyright notice"
	const mpl = "mozilla public license version 2 0"
	return []mark{
		{name: "Apache-2.0", all: []string{"apache license version 2 0"}},
		{name: "MIT", all: []string{"permission is hereby granted free of charge to any person obtaining a copy", "the software is provided as is"}},
		{name: "BSD-3-Clause", all: []string{bsd, endorse}, none: []string{advertise}},
		{name: "BSD-2-Clause", all: []string{bsd}, none: []string{endorse, advertise}},
		{name: "BSD-4-Clause", all: []string{bsd, advertise}},
		{name: "ISC", all: []string{isc, provided}},
		{name: "0BSD", all: []string{isc}, none: []string{provided}},
		{name: "MPL-2.0", all: []string{mpl}},
		{name: "AGPL", all: []string{"gnu affero general public license"}, none: []string{mpl}},
		{name: "LGPL", all: []string{"gnu lesser general public license"}, none: []string{mpl}},
		{name: "GPL", all: []string{"gnu general public license"}, none: []string{mpl, "gnu lesser general public license", "gnu affero general public license"}},
		{name: "EPL", all: []string{"eclipse public license"}},
		{name: "SSPL", all: []string{"server side public license"}},
		{name: "BUSL", all: []string{"business source license"}},
		{name: "Elastic", all: []string{"elastic license"}},
		{name: "Commons-Clause", all: []string{"commons clause"}},
		{name: "Unlicense", all: []string{"this is free and unencumbered software released into the public domain"}},
		{name: "CC0-1.0", all: []string{"cc0 1 0 universal"}},
		{name: "CC-BY", all: []string{"creative commons attribution"}},
	}
}

var notWords = regexp.MustCompile(`[^a-z0-9]+`)

// classify returns the SPDX identifiers of the licences whose texts, or short forms, are in text.
func classify(text string) (names []string) {
	normal := strings.TrimSpace(notWords.ReplaceAllString(strings.ToLower(text), " "))
	contains := func(s string) bool { return strings.Contains(normal, s) }
	for _, m := range marks() {
		if !slices.ContainsFunc(m.all, func(s string) bool { return !contains(s) }) && !slices.ContainsFunc(m.none, contains) {
			names = append(names, m.name)
		}
	}
	slices.Sort(names)
	return names
}

// judge returns an error that names each module whose licences are not accepted, and what to do.
func judge(modules []*module, r rules) error {
	var errs []error
	complain := func(m *module, format string, args ...any) {
		used := strings.Join(slices.Sorted(maps.Keys(m.binaries)), ", ")
		errs = append(errs, fmt.Errorf("%s %s (linked into %s) %s", m.Path, m.Version, used, fmt.Sprintf(format, args...)))
	}
	for _, m := range modules {
		any := false
		for _, l := range m.licences {
			if noticeFile.MatchString(filepath.Base(l.file)) {
				continue
			}
			any = true
			if len(l.names) == 0 {
				complain(m, "has a licence that is not known (%s in %s): read it, and teach licence.go its text, or do without the module", l.file, m.dir)
			}
			for _, n := range l.names {
				if r.allowed[n] == "" && r.exceptions[m.Path+" "+n] == "" {
					complain(m, "is under %s (%s), which is not allowed: do without the module, or decide on it in docs/adr and name it in scripts/tools/supply/policy.go", n, l.file)
				}
			}
		}
		if !any {
			complain(m, "has no licence file in %s: nobody may ship it; do without the module", m.dir)
		}
	}
	return errors.Join(errs...)
}
