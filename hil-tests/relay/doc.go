// Package relay tests the relay against a real Kubernetes control plane: what relay/kube's unit tests assume of an API server
// (resourceVersions, preconditions, subresources, the node controller), and what skerry-relay says when something is missing.
//
//	SKERRY_BIN=build/bin go test -tags integration ./hil-tests/relay
package relay
