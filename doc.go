// Package skerry is the root of the Skerry edge platform; see README.md and docs/architecture.md.
package skerry
