// Package autonomy_test cuts a gateway off for longer than Kubernetes' patience: real control plane, relay, agent and containerd, seen through the
// Kubernetes API (docs/autonomy.md has what is promised).
//
//	go test -tags integration ./hil-tests/autonomy/
//
// It needs root, containerd and the binaries (make build kube); SKERRY_BIN names another folder of binaries. It takes about three minutes: the node
// controller waits 50 s before it counts a node as lost. Pods ask for an eviction time of 5 s, and one that opts out shows that it is over.
package autonomy_test
