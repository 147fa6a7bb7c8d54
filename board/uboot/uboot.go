// Package uboot holds the script by which U-Boot chooses between the two systems on a gateway's disk (boot.cmd). Images get it as boot.scr, on the
// partition that U-Boot's distro boot looks at:
//
//	mkimage -A arm -T script -d boot.cmd boot.scr
//
// The rules are those of bootenv.Env.Boot; hil-tests/bootscript runs the script in U-Boot and compares. docs/updates.md tells them to users.
package uboot

import _ "embed"

//go:embed boot.cmd
var script string

// Script returns the text of boot.cmd.
func Script() string { return script }
