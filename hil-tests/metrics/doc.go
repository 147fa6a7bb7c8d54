// Package metrics drives `kubectl top`, a HorizontalPodAutoscaler and what Prometheus asks of a kubelet, on the real API server, an unmodified
// metrics-server, two real relays, the real agent and real containerd.
//
//	make metrics-server
//	SKERRY_BIN=… go test -tags integration -count=1 ./hil-tests/metrics
//
// metrics-server runs as a process beside the control plane, with the manifests and the flags that its project deploys it with, and the
// rights of its own ServiceAccount. It verifies the relays' serving certificate, which the cluster's signer kubernetes.io/kubelet-serving has
// made as docs/kubelet.md says. Pages are read by Prometheus' own parser.
//
// With SKERRY_CONTAINERD2=…/containerd2/containerd it runs on that containerd instead of Debian's.
//
// The tests share one system, which TestMain starts; they run one after the other.
package metrics
