// Package kubelet is the relays' side of the kubelet API: the port to which the API server sends `kubectl logs`, `exec`, `attach`,
// `port-forward` and `top` for all gateways. It finds out who asks and whether they may, which gateway is meant, and which relay
// has its session, and hands the request through to the agent (firmware/kubeletapi).
//
//	s, err := kubelet.New(kubelet.Options{Name: "relay-a", Listen: ":10250", Client: client, Sessions: hub, Pods: index, …})
//	err = s.Run(ctx)
//
// # Who asks, and whether they may
//
// As at a kubelet with --authentication-token-webhook and --authorization-mode=Webhook: a client certificate of the API server's CA, or a
// bearer token that a TokenReview accepts; nobody is anonymous. Then a SubjectAccessReview of nodes/proxy, nodes/stats, nodes/metrics,
// nodes/log, nodes/pods or nodes/healthz for the node that is meant. Answers are remembered for a kubelet's times. Tokens are never handed on.
//
// # Which gateway
//
// All nodes share one address and port, so that an agent which changes relays changes nothing in its Node. Paths that name a pod
// lead to its node by the relay's own cache. Paths that do not (/stats/summary, /metrics/…, /pods) name it in front (/nodes/NAME/stats/summary), or
// come through the API server's node proxy, which says for which node it was asked, or by a connection that is for one node: to a name below
// Options.Domain (TLS server name or Host header), or to a port of the node's own (Options.Ports). docs/adr/0007 says why.
//
// # Which relay
//
// If the session is not here, the node's Lease names the relay that has it, and the request goes there once more over TLS, with
// certificates that the relays sign for themselves with Skerry's CA; a gateway's certificate does not open that door. A relay that gets a
// request from another one answers it or fails; it hands on nothing.
//
// # Concurrency
//
// A Server is safe for concurrent use; Run is called once.
//
// # Testing
//
// Unit tests run servers on loopback against client-go's fake API server and agents made of net/http. hil-tests/kubelet drives real
// relays and agents with kubectl.
package kubelet
