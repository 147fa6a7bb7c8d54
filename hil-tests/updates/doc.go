// Package updates holds what Skerry makes for RAUC to Debian's real rauc: bundles that it signs verify against the keyring and the configuration of an image, and
// those that were altered, cut short, signed by somebody else or with a certificate for something else do not.
//
//	go test -tags integration -count=1 ./hil-tests/updates
//
// Needs rauc and squashfs-tools; no root. A whole gateway that is updated from a stick, with two versions of an image (hil-tests/scenarios has the rest of its life):
//
//	SKERRY_IMAGES=FOLDER go test -tags hil -count=1 -timeout 30m ./hil-tests/updates
//
// Power cuts during updates (docs/updates.md): [Campaign] takes what a recorded gateway has written to its disk (hil-tests/cutlog) up to some point, loses some of what was
// not flushed, and has [Judge] say what boots from that. The tests of this package without a tag do so with a small disk and the real writer of the boot
// environment, at each write, and with writers that forget a flush, which the judge has to notice. A whole machine is recorded, cut and booted by
//
//	make hil-powercut N=500
package updates
