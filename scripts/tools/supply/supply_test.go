package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Beginnings and telling parts of licence texts, broken into lines as their files are.
const (
	mit       = "Permission is hereby granted, free of charge, to any person obtaining a copy\nof this software …\nTHE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY"
	apache    = "                                 Apache License\n                           Version 2.0, January 2004"
	bsd2      = "Redistribution and use in source and binary forms, with or without\nmodification, are permitted provided that …"
	bsd3      = bsd2 + "\n   * Neither the name of X nor the names of its contributors may be used\n to endorse or promote products derived from this software"
	bsd4      = bsd3 + "\n3. All advertising materials mentioning features"
	iscText   = "Permission to use, copy, modify, and distribute this software for any\npurpose with or without fee is hereby granted, provided that the above\ncopyright notice and this permission notice appear in all copies."
	zeroBSD   = "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted.\nTHE SOFTWARE IS PROVIDED \"AS IS\""
	mplText   = "Mozilla Public License Version 2.0\n… \"Secondary License\" means either the GNU General Public License, Version 2.0,\nthe GNU Lesser General Public License, Version 2.1"
	gplText   = "GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007"
	lgplText  = "GNU LESSER GENERAL PUBLIC LICENSE\nThis version of the GNU Lesser General Public License incorporates the terms of version 3 of the GNU General Public License"
	bothTexts = "This project is covered by two different licenses: MIT and Apache.\n" + mit + "\nLicensed under the Apache License, Version 2.0 (the \"License\")"
)

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		mit: "MIT", apache: "Apache-2.0", bsd2: "BSD-2-Clause", bsd3: "BSD-3-Clause", bsd4: "BSD-4-Clause", iscText: "ISC", zeroBSD: "0BSD",
		mplText: "MPL-2.0", gplText: "GPL", lgplText: "LGPL", bothTexts: "Apache-2.0 MIT",
		"// " + strings.ReplaceAll(mit, "\n", "\n// "): "MIT",
		"All rights reserved.":                         "", "": "",
	} {
		if got := strings.Join(classify(text), " "); got != want {
			t.Errorf("%.60q…: %q, want %q", text, got, want)
		}
	}
}

// tree makes a checkout whose skerryd links the given modules, each a folder of files.
func tree(t *testing.T, modules map[string]map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gomod, main := "module ours\n\ngo 1.26\n", "package main\n\nimport (\n"
	for name, files := range modules {
		gomod += "\nrequire example.org/" + name + " v1.2.3\nreplace example.org/" + name + " => ./" + name + "\n"
		main += "\t_ \"example.org/" + name + "/part\"\n"
		write(name+"/go.mod", "module example.org/"+name+"\n\ngo 1.26\n")
		write(name+"/part/part.go", "package part\n")
		write(name+"/unused/unused.go", "package unused\n")
		for file, text := range files {
			write(name+"/"+file, text)
		}
	}
	write("go.mod", gomod)
	write("cmd/main.go", main+")\n\nfunc main() {}\n")
	return root
}

func modulesIn(t *testing.T, root string) []*module {
	t.Helper()
	modules, err := linked(t.Context(), root, []binary{{"agent", "./cmd", []string{"arm", "amd64"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := readLicences(modules); err != nil {
		t.Fatal(err)
	}
	return modules
}

func TestJudge(t *testing.T) {
	modules := modulesIn(t, tree(t, map[string]map[string]string{
		"good":    {"LICENSE": mit, "unused/COPYING": gplText, "NOTICE": "Somebody wrote this."},
		"mixed":   {"LICENSE": apache, "part/LICENSE.txt": gplText},
		"secret":  {"LICENCE.md": "Ask before you use this."},
		"nothing": {"README": "hello", "NOTICE": "Somebody wrote this."},
		"weak":    {"LICENSE": mplText},
	}))
	if len(modules) != 5 {
		t.Fatalf("%d modules, want 5", len(modules))
	}
	err := judge(modules, policy())
	if err == nil {
		t.Fatal("copyleft, unknown and missing licences pass")
	}
	text := err.Error()
	for _, want := range []string{
		"./mixed  (linked into agent) is under GPL (part/LICENSE.txt), which is not allowed: do without",
		"./secret  (linked into agent) has a licence that is not known (LICENCE.md in ",
		"./nothing  (linked into agent) has no licence file",
		"./weak  (linked into agent) is under MPL-2.0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the error does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "./good") {
		t.Errorf("an MIT module is refused, or a package that is not linked counts:\n%s", text)
	}
	r := policy()
	r.exceptions["./weak MPL-2.0"] = "decided"
	if err := judge(modules, r); strings.Contains(err.Error(), "./weak") {
		t.Errorf("an exception is not taken: %v", err)
	}
}

func TestDocument(t *testing.T) {
	modules := modulesIn(t, tree(t, map[string]map[string]string{"b": {"LICENSE": mit}, "a": {"LICENSE": bothTexts}}))
	path := filepath.Join(t.TempDir(), "dependencies.md")
	if err := upToDate(path, document(modules)); err == nil {
		t.Error("a missing list passes")
	}
	if err := os.WriteFile(path, document(modules), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := upToDate(path, document(modules)); err != nil {
		t.Error(err)
	}
	modules[1].Version = "v9.9.9"
	err := upToDate(path, document(modules))
	if err == nil || !strings.Contains(err.Error(), "make dependencies") || !strings.Contains(err.Error(), "v9.9.9") {
		t.Errorf("a new version gives %v", err)
	}
}

func TestSBOM(t *testing.T) {
	modules := []*module{
		{Path: "example.org/a", Version: "v1.0.0", binaries: map[string]bool{"skerryd": true}, licences: []licence{{"LICENSE", []string{"MIT"}, mit}, {"NOTICE", nil, "Made by A."}}},
		{Path: "example.org/b", Version: "v2.0.0", binaries: map[string]bool{"skerry-relay": true}, licences: []licence{{"LICENSE", []string{"Apache-2.0"}, apache}}},
	}
	dir := t.TempDir()
	if err := sbom(modules, dir, "v0.1"); err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(filepath.Join(dir, "skerryd.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc bom
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range doc.Components {
		refs = append(refs, c.PURL)
	}
	if doc.Metadata.Component.Version != "v0.1" || len(refs) != 2 || !strings.HasPrefix(refs[0], "pkg:golang/std@1.") || refs[1] != "pkg:golang/example.org/a@v1.0.0" {
		t.Errorf("skerryd %s is made of %v", doc.Metadata.Component.Version, refs)
	}
	texts, err := os.ReadFile(filepath.Join(dir, "skerryd-licences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(texts); !strings.Contains(s, mit) || !strings.Contains(s, "Made by A.") || strings.Contains(s, "Apache") {
		t.Errorf("the licence texts of skerryd are:\n%s", s)
	}
}

// TestPolicyNamesWhatIsKnown: a licence that is allowed must be one that classify can tell.
func TestPolicyNamesWhatIsKnown(t *testing.T) {
	for name := range policy().allowed {
		if !slices.ContainsFunc(marks(), func(m mark) bool { return m.name == name }) {
			t.Errorf("%s is allowed but never recognised", name)
		}
	}
}

// TestVulnsNotChecked: without a database nothing is green in silence.
func TestVulnsNotChecked(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	o := vulnOptions{root: root, database: "file://" + t.TempDir()}
	var out bytes.Buffer
	if err := vulns(t.Context(), &out, o); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NOT CHECKED", "k8s.io/client-go v", "GOVULNDB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	o.required = true
	if err := vulns(t.Context(), &out, o); err == nil {
		t.Error("a check that was required and did not happen is no error")
	}
}

// TestVulnsVerdicts runs scripts in govulncheck's place: its exit status 3 is a finding, another is a failure.
func TestVulnsVerdicts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "index"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index", "db.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"echo none":                  "",
		"echo GO-2026-0001; exit 3":  "known vulnerabilities are called",
		"echo no module >&2; exit 1": "govulncheck: exit status 1: no module",
	} {
		tool := filepath.Join(dir, "tool")
		if err := os.WriteFile(tool, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := vulns(t.Context(), &out, vulnOptions{root: dir, tool: tool, database: "file://" + dir})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q gives %v, want %q", script, err, want)
		}
	}
}
