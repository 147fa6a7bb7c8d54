// Package image builds the flashable images of a board from its descriptor: a disk with two slots of kernel, initrd and read-only root, a
// boot script, a partition for the provisioning file, and room for data. board/cmd/skerry-image is its command, `make image BOARD=NAME` calls
// it; docs/flashing.md tells how an image is used.
//
//	b := image.Builder{Board: descriptor, Out: "build/images/qemu-armv7", Cache: "build/images/cache", Agent: "build/linux-armv7/skerryd", ...}
//	result, err := b.Build(ctx)
//
// Nothing is mounted, no root's rights and no package's maintainer script are needed: Debian packages are unpacked into a [Tree] in
// memory, in which owners are what the archives say, and what scripts would have done (accounts, links, certificates) is done by code here. Every input is
// named by its hash in a lock file; the same lock, sources and SOURCE_DATE_EPOCH give the same bytes (hil-tests/images builds twice).
//
// Tools of Debian that run: apt-get (packages, with a state of its own), dpkg-deb, depmod, mksquashfs, mke2fs, debugfs, mkfs.vfat, mcopy, mkimage, veritysetup.
//
// A Builder is for one Build. Unit tests cover the tree, locks, accounts, archives and tables; what an image does is tested by booting it.
package image
