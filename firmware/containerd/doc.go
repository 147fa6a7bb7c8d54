// Package containerd speaks the little of containerd's own API that CRI has no word for: it puts images into containerd's content and
// image stores, tells how far pulls have come, and ends tasks of containers that CRI takes for ended.
//
//	c := containerd.New(criClient)
//	ctx, release, err := c.Lease(ctx)  // what is written now is not collected until release
//	err = plan.Write(ctx, c)            // Client is the images.Store
//	err = release(ctx)
//
// containerd serves this API (containerd/api services content, images, leases and tasks, all version 1, the same from containerd 1.2 to 2.x)
// on the socket on which it serves CRI. Other runtimes answer ErrUnimplemented. Everything happens in the namespace k8s.io, which is the one
// that CRI uses; CRI's image service notices new images by itself.
//
// # Messages
//
// The few messages are encoded by hand, field by field, with the numbers of the .proto files; of answers only what is used is read.
//
// # Concurrency
//
// A Client may be used by any number of goroutines. It has no state of its own.
//
// # Testing
//
// Unit tests run against a gRPC peer made of net/http; a fuzz test holds the decoder. hil-tests/airgap runs it on a real containerd.
package containerd
