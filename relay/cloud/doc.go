// Package cloud serves what a relay offers to the agents that are connected to it, over streams of the service "cloud": HTTP/1.1,
// with the node that the session has proved to be as the one who asks (package firmware/wire/cloud has the messages).
//
//	l, err := hub.Listen(wire.Service)
//	err = cloud.New(cloud.Options{Pods: index, Accounts: client.CoreV1(), Log: log}).Serve(ctx, l)
//
// # Service account tokens
//
// POST /v1/token gives a token of a pod's service account. The relay's own right would let it make a token of any service account of the cluster;
// what a node gets is decided here, as the API server's NodeRestriction and its node authorizer decide it for a kubelet:
//
//   - the pod, with its UID, is bound to the node that asks, as far as this relay's cache knows, and has not ended;
//   - the service account is the pod's own;
//   - one of the pod's projected volumes names this audience and this lifetime.
//
// The token is bound to the pod, so that Kubernetes refuses it once the pod is gone; that it exists and has this UID and this service account, the API server
// checks again. Each node has a budget of requests and of requests at once, so that none can use up the relay's.
//
// # Concurrency
//
// Serve blocks until its context ends, and has closed all streams then.
//
// # Testing
//
// Unit tests speak HTTP over pipes to a server whose API is a function. hil-tests/tokens has the real API server.
package cloud
