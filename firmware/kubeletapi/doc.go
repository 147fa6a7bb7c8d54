// Package kubeletapi serves the part of the kubelet's HTTP API that Kubernetes uses to reach into a node: logs, exec, attach,
// port-forward and statistics. It is what `kubectl logs` and `kubectl exec` end at.
//
//	s, err := kubeletapi.New(kubeletapi.Options{Node: "gw-1", Pods: pods, Runtime: cri, LogDir: "/var/log/pods"})
//	err = s.Serve(ctx, listener) // streams that the relay opens through the link
//
// # Who may call
//
// There is no authentication here: whoever can open a connection to the listener may do everything. In the agent it accepts streams
// that come through the link's mutually authenticated connection, and no socket; the relay has asked the API server who the caller is
// and what it may do (relay/kubelet).
//
// # Paths
//
// Those of the kubelet (k8s.io/kubernetes pkg/kubelet/server): /containerLogs/NAMESPACE/POD/CONTAINER, /exec/… and /attach/… (with
// the pod's UID before the container, or without), /portForward/NAMESPACE/POD, /pods, /runningpods/, /stats/summary, /metrics,
// /metrics/cadvisor, /metrics/probes, /metrics/resource, /configz, /healthz. /run, /logs (the gateway's own files), checkpoints and debug
// handlers do not exist.
//
// exec, attach and port-forward ask the runtime for a session (CRI Exec, Attach, PortForward), whose answer is a URL of the runtime's
// own streaming server, and hand the upgraded connection through, byte for byte, whether it speaks SPDY or WebSocket. URLs
// that do not lead to a loopback address are refused.
//
// Logs are read from the files that the runtime writes in the CRI format, rotated ones included, so they are there after a restart of
// the agent and while the runtime does not answer.
//
// # Statistics
//
// They are made when they are asked for: containers' by the runtime, pods' from their cgroups (either version) and the network namespace of
// their sandbox, the node's from /proc. What is in folders is counted at most once a minute, and not beyond 100,000 files. Metrics are written
// by hand in Prometheus' text format: its client library would cost a gateway more than all of this package.
//
// # Limits
//
// At most MaxRequests requests at once, and eight pages of statistics, each to be read within 30 s. An upgraded connection on which nothing moves for Idle is closed; so is a request whose connection
// is gone, whatever it waits for. A reader that is slow costs one buffer, and delays nobody else.
//
// # Concurrency
//
// A Server is safe for concurrent use. Serve may be called for several listeners.
//
// # Testing
//
// Unit tests use log files written as containerd writes them, rotated while they are read, and a streaming server made of net/http. The parser
// of log lines has a fuzz test. Statistics are made of trees of files that look like a machine's. hil-tests/contract/kubelet holds /stats/summary to
// the kubelet's types, hil-tests/kubelet and hil-tests/metrics drive it all with kubectl, metrics-server and Prometheus' parser.
package kubeletapi
