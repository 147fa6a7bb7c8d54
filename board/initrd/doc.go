// Package initrd is what happens between the kernel and systemd on an image of ours: it finds the slot's root and checks it, makes the
// data partition usable, and lays the machine's own state over the root. board/cmd/skerry-initrd is the one program of an initrd; it calls
// [Boot] as process 1.
//
//	err := initrd.Boot(initrd.NewMachine(os.Stdout), initrd.ParseCommandLine(text))
//
// Boot returns only if the slot cannot be booted. The program then says why on the console and restarts the board: the boot script has
// taken one of the slot's tries before, and takes the other slot when none is left.
//
// What Boot leaves:
//
//	/                 the slot's squashfs through dm-verity, read-only
//	/var, /tmp        in memory
//	/var/lib/skerry   the data partition: checked, mended, as large as the disk allows; made anew only if it is proven lost, and never by a system on trial
//	/etc              the root's, with the machine's state over it: only the files of [EtcState] outlive a start
//
// Nothing here runs concurrently. [Machine] is the seam: tests run the same code with real file systems in files and mounts that are only
// noted; whole images are booted by hil-tests/images.
package initrd
