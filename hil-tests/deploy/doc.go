// Package deploy gives the Helm chart of relay/deploy to a real API server: rendered with its default values and with many others, each
// object is applied with strict validation, in dry runs and for real, under the Pod Security Standard "restricted". It asks the API
// server what the relay's account may do and what it may not, and runs a relay and an agent with nothing but the rights that the
// chart grants.
//
//	SKERRY_BIN=$PWD/build/bin go test -tags integration ./hil-tests/deploy
//
// It needs neither root nor containerd: pods are created, but there is no node to run them.
package deploy
