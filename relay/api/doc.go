// Package api is the home of the custom resources: Go types in devices/v1beta1 and its later siblings, manifests generated
// from them in crds. `go generate ./relay/api` writes both again. Nothing is imported from here itself.
//
// The types are tested against KubeEdge's own in hil-tests/contract/kubeedge, the manifests against a real API server in
// the integration tests.
package api
