// Package registries_test tries where images come from, from end to end: private registries over TLS with a CA of their own, basic and bearer
// authentication, mirrors, digests, registries that are slow, hang or refuse, and all that while the gateway is cut off. The tests drive the Kubernetes API
// and the registries, and nothing else; the runtime is configured with the very text of docs/images.md.
//
//	go test -tags integration ./hil-tests/registries/
//
// It needs root, containerd, the binaries (make build kube) and nothing else; SKERRY_BIN names another folder of binaries. The registries are at an
// address of their own on the loopback interface (198.51.100.N), because runtimes trust everything on 127.0.0.1.
package registries_test
