// Package bootenv is the boot environment: which of the two systems on a gateway's disk boots next, and how often it may still be tried. U-Boot's script
// (board/uboot) reads and writes it at each boot, RAUC and the agent write it when a system is installed, confirmed or given up.
//
//	d, err := bootenv.Open([2]string{"/dev/disk/by-partlabel/env-a", "/dev/disk/by-partlabel/env-b"})
//	defer d.Close()
//	env, err := d.Update(func(e *bootenv.Env) error { return e.SetPrimary("B") })
//
// There are two copies, each a block of U-Boot's `env import -c` format: the CRC-32 of what follows, then NAME=VALUE, each ended by a zero byte, an
// empty one at the end, zeros up to the block's size. Readers take the whole copy with the higher [Env.Seq]. Whoever writes raises it and
// writes the copy that does not count first, syncs it, reads it back, and only then writes the one that did (never, if the first could not be written): whatever instant the power fails at, one copy is whole, and
// what counts is the state before or the state after. (U-Boot's own redundant
// format is not used: it has a flag byte after the CRC, which `env import -c` refuses.) Two damaged copies mean [Default], and the next writer repairs them.
//
// [Parse], [Env.Encode] and the methods of [Env] are pure. A [Disk] is locked while it is open (flock on copy 0), so that RAUC's back end and
// the agent take turns; its methods are not for several goroutines at once. The decoder is fuzzed; tests cut the power after every write and with every subset of what
// was not synced; hil-tests/bootscript runs the script in U-Boot itself and holds it to [Env.Boot].
package bootenv
