// Package images makes container images from our own static binaries and serves them from a registry on
// loopback, because no public registry can be relied on (and none is contacted) in tests and in the demo.
//
//	reg, err := images.Start(ctx, images.Options{ModuleDir: root, BuildDir: root + "/build/images"})
//	defer reg.Close()
//	reg.Ref("sample:1")   // 127.0.0.1:PORT/sample:1
//	reg.PauseImage()      // for containerd's sandbox_image
//
// Start compiles hil-tests/images/pause and hil-tests/images/sample with the Go command and pushes pause:3.6, sample:1 and
// sample:2 (the same program with SAMPLE_VERSION=2). More can be pushed with Compile, FromBinary and Push.
//
// Serve shows the same images at another address, as a registry that is reached over TLS, wants a login or a token, or has faults.
//
// A Registry holds its blobs in memory, serves from one goroutine of its own until Close, and is safe for
// concurrent use. Requests counts manifests asked for, so that a test can tell whether an image was pulled.
package images
