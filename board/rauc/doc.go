// Package rauc is what Skerry and RAUC (1.8, as Debian has it) need of each other: RAUC's system.conf for a board, the manifest and the making of a signed bundle, the
// keys that development bundles are signed with, and [Backend], the handler that RAUC calls to read and set which slot boots.
//
//	text, err := rauc.SystemConf(descriptor)            // /etc/rauc/system.conf of an image
//	err := rauc.Bundle{…}.Make(ctx, "update.raucb")     // runs `rauc bundle`
//	err := rauc.Backend{Open: …, Cmdline: …}.Run(args, os.Stdout)
//
// A bundle is for one kind of board: its compatible is skerry- and the board's name, and RAUC refuses another. It has the verity format: its signature covers a
// hash tree over all that is in it, so that nothing unsigned is ever written. Its payload is stored, not compressed (the images are), which is what lets
// downloads find in a bundle what the running slot already has.
//
// Nothing here is kept between calls, and all may be called from any goroutine. Tests hold the back end to what RAUC's src/bootloaders/custom.c asks and
// expects, and have the real rauc sign bundles and refuse those that were altered (hil-tests/updates).
package rauc
