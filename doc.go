// Package skerry is the root of the Skerry edge platform: it holds the version that all commands print, and the tests
// that hold the whole tree to its rules (import directions, package docs, what the agent may link).
//
// See README.md for what Skerry is and docs/architecture.md for how its packages fit together.
package skerry

// Version is what `git describe` said when the binary was built; the linker sets it (see Makefile).
var Version = "development"
