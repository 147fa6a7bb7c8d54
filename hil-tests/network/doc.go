// Package network_test proves the networks of pods on a whole system, through the Kubernetes API: the addresses that the cluster gives to
// nodes, pods that reach each other, the node and, by host ports, the other way round, the DNS policies, and a CNI that comes as a DaemonSet.
// With the tag networking, kube-proxy and CoreDNS as their projects ship them run as pods (make networking).
//
//	SKERRY_BIN=$PWD/build/bin go test -tags integration ./hil-tests/network/
//
// Everything runs in a network namespace of its own (hil-tests/rig/isolation): the machine's packet filter is not touched.
package network_test
