// Package pods_test runs the pods of firmware/pods on a real containerd: what the hand-written runtime of its unit tests claims
// is held against the real one here.
//
//	go test -tags integration ./hil-tests/pods/
//
// It needs root, containerd, runc and the CNI plugins (make deps). All state is in temporary folders; one containerd and one
// registry serve all tests. The desired view and the reports are in memory, so that only the pods and the runtime are under test.
package pods_test
