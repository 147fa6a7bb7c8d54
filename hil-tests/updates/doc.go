// Package updates holds what Skerry makes for RAUC to Debian's real rauc: bundles that it signs verify against the keyring and the configuration of an image, and
// those that were altered, cut short, signed by somebody else or with a certificate for something else do not.
//
//	go test -tags integration -count=1 ./hil-tests/updates
//
// Needs rauc and squashfs-tools; no root. A whole gateway that is updated from a stick, with two versions of an image (hil-tests/scenarios has the rest of its life):
//
//	SKERRY_IMAGES=FOLDER go test -tags hil -count=1 -timeout 30m ./hil-tests/updates
package updates
