package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The parts of CycloneDX 1.6 (ECMA-424) that are used. Times and serial numbers are left out: the same sources give the same bytes.
type (
	bom struct {
		Format     string      `json:"bomFormat"`
		Spec       string      `json:"specVersion"`
		Version    int         `json:"version"`
		Metadata   bomMetadata `json:"metadata"`
		Components []component `json:"components"`
	}
	bomMetadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type     string       `json:"type"`
		Ref      string       `json:"bom-ref"`
		Name     string       `json:"name"`
		Version  string       `json:"version"`
		PURL     string       `json:"purl,omitempty"`
		Licences []bomLicence `json:"licenses,omitempty"`
	}
	bomLicence struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
)

func licencesOf(names ...string) (out []bomLicence) {
	for _, n := range names {
		var l bomLicence
		l.Licence.ID = n
		out = append(out, l)
	}
	return out
}

func library(path, version string, licences ...string) component {
	purl := "pkg:golang/" + path + "@" + version
	return component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl, Licences: licencesOf(licences...)}
}

// sbom writes NAME.cdx.json and NAME-licences.txt of each binary into dir.
func sbom(modules []*module, dir, version string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for the documents: %w", err)
	}
	var errs []error
	for _, b := range shipped() {
		doc := bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: bomMetadata{component{
			Type: "application", Ref: b.name, Name: b.name, Version: version, Licences: licencesOf("Apache-2.0"),
		}}}
		var texts bytes.Buffer
		fmt.Fprintf(&texts, "Licences and notices of what is linked into %s %s\n", b.name, version)
		doc.Components = append(doc.Components, library("std", strings.TrimPrefix(runtime.Version(), "go"), "BSD-3-Clause"))
		for _, m := range modules {
			if !m.binaries[b.name] {
				continue
			}
			doc.Components = append(doc.Components, library(m.Path, m.Version, m.names()...))
			for _, l := range m.licences {
				fmt.Fprintf(&texts, "\n===== %s %s: %s\n\n%s\n", m.Path, m.Version, l.file, strings.TrimRight(l.text, "\n"))
			}
		}
		body, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the document of %s: %w", b.name, err)
		}
		errs = append(errs,
			os.WriteFile(filepath.Join(dir, b.name+".cdx.json"), append(body, '\n'), 0o644),
			os.WriteFile(filepath.Join(dir, b.name+"-licences.txt"), texts.Bytes(), 0o644))
	}
	return errors.Join(errs...)
}
