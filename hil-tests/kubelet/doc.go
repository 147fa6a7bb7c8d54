// Package kubelet drives `kubectl logs`, exec, attach, port-forward, cp and the node-level paths through the real API server, two real
// relays, the real agent and real containerd, as a user does: only kubectl is called.
//
//	SKERRY_BIN=… go test -tags integration -count=1 ./hil-tests/kubelet
//
// The API server reaches the relays at one address, 127.0.0.1 and a port of the test's own load balancer, which sends connections to the
// relay that the test names: to the one that has the agent, or to the other.
//
// The tests share one system, which TestMain starts; they run one after the other.
package kubelet
