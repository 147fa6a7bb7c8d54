package image

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The parts of an SPDX 2.3 document (spdx.github.io/spdx-spec/v2.3) that an image needs.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID        string         `json:"SPDXID"`
	Name      string         `json:"name"`
	Version   string         `json:"versionInfo"`
	Download  string         `json:"downloadLocation"`
	Analyzed  bool           `json:"filesAnalyzed"`
	Concluded string         `json:"licenseConcluded"`
	Declared  string         `json:"licenseDeclared"`
	Copyright string         `json:"copyrightText"`
	Supplier  string         `json:"supplier,omitempty"`
	Checksums []spdxChecksum `json:"checksums,omitempty"`
	Refs      []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const unknown = "NOASSERTION"

// sbom lists what is in an image: Debian's packages of the lock file, and the modules that are linked into our programs.
func sbom(boardName, version string, epoch time.Time, list []Package, programs ...string) ([]byte, error) {
	const image = "SPDXRef-Image"
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "skerry-" + boardName + "-" + version,
		Creation: spdxCreation{epoch.UTC().Format(time.RFC3339), []string{"Tool: skerry-image-" + version}},
		Packages: []spdxPackage{{ID: image, Name: "skerry-" + boardName, Version: version, Download: unknown, Concluded: unknown, Declared: unknown, Copyright: unknown}},
	}
	d.Relationships = []spdxRelationship{{d.ID, "DESCRIBES", image}}
	seen := map[string]bool{}
	add := func(p spdxPackage, purl, inside string) {
		p.Download, p.Concluded, p.Declared, p.Copyright = unknown, unknown, unknown, unknown
		p.Refs = []spdxRef{{"PACKAGE-MANAGER", "purl", purl}}
		if !seen[p.ID] {
			seen[p.ID] = true
			d.Packages = append(d.Packages, p)
		}
		d.Relationships = append(d.Relationships, spdxRelationship{inside, "CONTAINS", p.ID})
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	names := ""
	for _, p := range list {
		names += p.SHA256
		add(spdxPackage{ID: spdxID("Debian", p.Name), Name: p.Name, Version: p.Version, Supplier: "Organization: Debian", Checksums: []spdxChecksum{{"SHA256", p.SHA256}}},
			fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", url.PathEscape(p.Name), url.PathEscape(p.Version), p.Arch, suite), image)
	}
	for _, file := range programs {
		info, err := buildinfo.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("modules of %s: %w", file, err)
		}
		sum, err := hashFile(file)
		if err != nil {
			return nil, err
		}
		names += sum
		name := filepath.Base(file)
		program := spdxID("Program", name)
		add(spdxPackage{ID: program, Name: name, Version: version, Checksums: []spdxChecksum{{"SHA256", sum}}}, "pkg:generic/skerry/"+name+"@"+url.PathEscape(version), image)
		add(spdxPackage{ID: spdxID("Go", "stdlib"), Name: "stdlib", Version: info.GoVersion}, "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"), program)
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(spdxPackage{ID: spdxID("Go", m.Path), Name: m.Path, Version: m.Version}, "pkg:golang/"+m.Path+"@"+m.Version, program)
		}
	}
	d.Namespace = "https://github.com/skerry/skerry/spdx/" + d.Name + "-" + uuid(identifier("sbom", names))
	out, err := json.MarshalIndent(d, "", "  ")
	return append(out, '\n'), err
}

// spdxID makes an identifier of letters, digits, points and dashes.
func spdxID(kind, name string) string {
	return "SPDXRef-" + kind + "-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, name)
}
