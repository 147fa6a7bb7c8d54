// Package tokens_test tries service account tokens from end to end: real control plane, relay, agent and containerd, through the Kubernetes API.
//
//	go test -tags integration ./hil-tests/tokens/
//
// It needs root, containerd, the binaries (make build kube) and nothing else; SKERRY_BIN names another folder of binaries.
package tokens_test
