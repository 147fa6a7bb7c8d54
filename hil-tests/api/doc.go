// Package api tests against a real API server what fakes cannot show: that the CRDs take every field of KubeEdge's types
// and refuse what they should with a message that helps, that tables show what an operator needs, that `skerryctl init`
// gives the relay its rights and no more, and that join tokens are bound once.
//
// It runs with `go test -tags integration ./hil-tests/api`; SKERRY_BIN is the folder of the binaries (default build/bin).
package api
