// Package images imports container images from a file, for gateways that reach no registry.
//
//	a, err := images.Open(file)             // an OCI layout or the output of docker save, as a tar
//	plan, err := a.Plan(images.Options{Platform: images.Host()})
//	err = plan.Verify(ctx)                  // sizes and digests of all that will be written
//	err = plan.Write(ctx, store)            // names come last: nothing is half imported
//
// Of an image for several platforms the one of this machine is imported. Where the file has the index of all platforms, the index is
// kept too, so that pods which pin an image by the digest of its index find it.
//
// # Limits
//
// A file is somebody's: entries, nesting, and the sizes of all documents that are read into memory are limited, and no path of the file
// is ever a path on this machine.
//
// # Concurrency
//
// An Archive and its Plan belong to one goroutine.
//
// # Testing
//
// Unit tests make archives of each kind and damage them; a fuzz test holds the readers. hil-tests/airgap imports into a real containerd.
package images
