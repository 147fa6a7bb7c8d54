package rauc

import (
	"fmt"
	"strings"

	"github.com/skerry/skerry/board"
)

// Where an image has RAUC's files.
const (
	ConfPath    = "/etc/rauc/system.conf"
	KeyringPath = "/etc/rauc/keyring.pem"
	statusPath  = "/var/lib/skerry/rauc.status"
)

// Compatible is what the bundles of a board call their target.
func Compatible(boardName string) string { return "skerry-" + boardName }

// SystemConf returns RAUC's configuration for a board. An error says what the board's descriptor lacks.
func SystemConf(d *board.Descriptor) (string, error) {
	s := d.Storage
	if s == nil || len(s.Slots) == 0 {
		return "", fmt.Errorf("board %s: storage.slots is empty: the system of this board is not updated by Skerry", d.Name)
	}
	if _, err := Paths(s.Environment); err != nil {
		return "", fmt.Errorf("board %s: %w", d.Name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Made from the descriptor of board %s; see docs/updates.md.
[system]
compatible=%s
bootloader=custom
# Only bundles whose every byte is covered by the signature.
bundle-formats=verity
mountprefix=/run/rauc
statusfile=%s

[handlers]
bootloader-custom-backend=%s

[keyring]
path=%s
# The certificate has to be one for signing code, not just any of this CA.
check-purpose=codesign
# A gateway may wake up in 1970. What a certificate's dates are held against is the time that the bundle was signed at.
use-bundle-signing-time=true
`, d.Name, Compatible(d.Name), statusPath, BackendPath, KeyringPath)
	for i, slot := range s.Slots {
		fmt.Fprintf(&b, `
[slot.rootfs.%d]
device=%s
type=raw
bootname=%s

[slot.boot.%d]
device=%s
type=raw
parent=rootfs.%d
`, i, byLabel(slot.Root), slot.Name, i, byLabel(slot.Boot), i)
	}
	return b.String(), nil
}

// manifest returns the bundle's manifest.raucm.
func manifest(boardName, version, description, build string) string {
	return fmt.Sprintf(`[update]
compatible=%s
version=%s
description=%s
build=%s

[bundle]
format=verity

[image.rootfs]
filename=%s

[image.boot]
filename=%s
`, Compatible(boardName), version, description, build, rootFile, bootFile)
}
