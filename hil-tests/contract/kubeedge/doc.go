// Package kubeedge is the contract test between Skerry's device API and KubeEdge's own types: every field of theirs, found
// by reflection, survives a round trip through ours, and through the schema of our CRDs as an API server applies it.
//
// It is a module of its own, because KubeEdge's types are nothing that Skerry ships. Run it here: go test ./...
package kubeedge
