// Package target is a gateway on which scenarios are played: a machine of QEMU, or a real board on somebody's bench. A rig file (YAML, docs/hil.md)
// says how its console is read, how its power is switched, how it is flashed, and what is attached to it.
//
// # Usage
//
//	rig, err := target.Load("rig.yaml")           // or target.QEMU("qemu-armv7")
//	t, err := target.Open(ctx, rig, target.Options{Dir: dir, Say: t.Logf})
//	defer t.Close()
//	relay, err := t.Reach(ctx, "127.0.0.1:7443")  // where the gateway finds what listens here
//	err = t.Flash(ctx, "build/images/qemu-armv7/skerry-qemu-armv7.img")
//	err = t.On(ctx)
//	_, err = t.Console().Expect(ctx, regexp.MustCompile(`login:`))
//	result, err := t.Exec(ctx, "cat /proc/uptime")
//	err = t.Cut(ctx)                              // the plug is pulled
//	err = t.Keep(ctx, failed)                     // console, state of the machine, disk
//
// Exec runs shell text: over SSH if the rig file has a command for it, else through QEMU's port org.skerry.debug, else on the console.
//
// # Adapters
//
// qemu starts QEMU (-accel tcg) with its control socket (QMP), its console and its serial lines on sockets below Options.Dir. The machine's network
// is `restrict=on`: it reaches nothing but what Reach names. A machine without an image boots a kernel and an initramfs. bench drives real hardware
// with the commands of the rig file.
//
// # Concurrency
//
// The methods of a Target are for one goroutine at a time; those of its Console and Shell may be called concurrently. Nothing is left running after
// Close: QEMU dies with the process that started it, too.
//
// # Testing
//
// The rig file's decoder is fuzzed. bench is tested against pseudo-terminals and local processes, qemu's control against a server of the tests; whole
// machines are booted by hil-tests/scenarios.
package target
