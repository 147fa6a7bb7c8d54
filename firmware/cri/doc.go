// Package cri is a minimal client of the Kubernetes Container Runtime Interface, version 1
// (k8s.io/cri-api pkg/apis/runtime/v1/api.proto), for containerd and CRI-O.
//
// It speaks gRPC over net/http's unencrypted HTTP/2 on a unix socket, with messages written by hand (firmware/grpcwire):
// linking grpc-go and k8s.io/cri-api instead costs 6 MB of flash and as much memory on a gateway.
//
//	c := cri.New(cri.Options{Socket: "/run/containerd/containerd.sock"})
//	defer c.Close()
//	id, err := c.RunPodSandbox(ctx, &cri.PodSandboxConfig{...}, "")
//	if errors.Is(err, cri.ErrUnavailable) { // containerd is down: try again later, with the same client
//
// # Messages
//
// Each message is a plain struct whose Walk method names its fields once, in the order of api.proto;
// encoding and decoding both follow that one list, so they cannot disagree. Fields that only Windows or
// deprecated APIs use are left out; unknown fields are skipped when decoding. A nil pointer is an absent
// sub-message. Wrapper messages (Int64Value, ContainerStateValue, …) are pointers to their value.
//
// # Limits
//
// A response larger than Options.MaxResponse, or one whose decoded form would take much more memory than
// its bytes, is refused before memory is taken for it.
//
// # Deadlines
//
// A context's deadline is sent as grpc-timeout. Calls whose context has none get Options.Timeout (plus the
// time the call itself is asked to take: a grace period, a command's time-out); PullImage and
// GetContainerEvents run until their context ends. The connection sends no keep-alive pings: grpc-go
// servers answer pings that come more often than every 5 minutes by closing the connection.
//
// # Concurrency
//
// A Client may be used by any number of goroutines. It holds one connection, made when it is first needed
// and made again after the runtime restarted; a call that was under way then fails with ErrUnavailable and
// is not repeated, because the runtime may have done its work. Messages are not safe for concurrent change.
//
// # Testing
//
// Unit tests run the client against a gRPC peer made of net/http. hil-tests/contract/cri holds every message and
// method to k8s.io/cri-api and a real grpc-go server; hil-tests/rig/containerd runs it against containerd.
package cri
