// Package bootscript runs board/uboot's script in U-Boot itself, in QEMU, and holds it to the model that the agent and RAUC's back end work with:
// bootenv.Env.Boot. Each case puts two copies of the boot environment on a disk, switches the machine on, and compares what it boots and what it leaves on the
// disk with the model.
//
//	go test -tags integration -count=1 ./hil-tests/bootscript
//
// Needs qemu-system-arm, u-boot-qemu, u-boot-tools, fdisk, dosfstools, mtools and e2fsprogs; no root, no kernel: what the slots boot is sixty bytes that
// print which slot they are and switch the machine off. A boot takes three to six seconds.
package bootscript
