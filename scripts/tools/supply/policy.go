package main

// binary is one that is shipped, with the platforms that it is built for (GOARCH values; arm means GOARM=7).
type binary struct {
	name, pkg string
	arches    []string
}

// shipped are the binaries that leave the house. What tests and tools link is not among them.
func shipped() []binary {
	return []binary{
		{"skerryd", "./firmware/cmd/skerryd", []string{"arm", "arm64", "amd64"}},
		{"skerry-relay", "./relay/cmd/skerry-relay", []string{"arm64", "amd64"}},
		{"skerryctl", "./relay/cmd/skerryctl", []string{"arm64", "amd64"}},
	}
}

// rules is what the project accepts. The keys of allowed are SPDX identifiers.
type rules struct {
	allowed    map[string]string // licence: what it asks of us
	exceptions map[string]string // "module licence": why it is accepted for this module alone
}

// policy accepts licences that ask for no more than their text and notices beside the binaries, which `make sbom` collects. Weak
// copyleft (MPL-2.0, EPL, LGPL) asks for the sources of changed files, or for linking that a static binary does not offer: each
// such module is a decision of its own, recorded below docs/adr and in exceptions.
func policy() rules {
	return rules{
		allowed: map[string]string{
			"Apache-2.0":   "text, notices, a word about changes",
			"MIT":          "text",
			"BSD-2-Clause": "text",
			"BSD-3-Clause": "text",
			"ISC":          "text",
			"0BSD":         "nothing",
		},
		exceptions: map[string]string{},
	}
}
