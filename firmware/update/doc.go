// Package update brings a new system to a gateway: it fetches a signed bundle, has RAUC write it to the slot that does not run, restarts the machine when its pods
// allow, tries the new system, and either confirms it or goes back. The gateway ends with a system that boots, whatever fails and whenever the power does.
//
//	m := update.NewMachine(policy, state)         // what is decided: Step(event, now) → actions, no I/O
//	u, err := update.New(update.Options{…})       // the shell around it: files, RAUC, downloads
//	err = u.Run(ctx)                              // blocks
//	u.Status(); u.Order(order)                    // from any goroutine
//
// The machine's [State] is saved before anything is done that depends on it, and every action may be done twice: after a power cut [Machine.Step] with [Started] finds out
// what has become of it by the slot that runs and by the boot's id. What a boot may do without being confirmed is up to the boot environment (board/bootenv):
// the script takes a try from the slot at each boot, so a system that hangs is left after three. docs/updates.md is the operator's view, ADR 0019 says why chunks.
//
// A Machine belongs to one goroutine. The tests drive it through whole updates on a model of the machine with the real boot environment, and cut the power between
// any two actions, seed after seed; the shell is tested with hand-written fakes of RAUC and of the download, and hil-tests/scenarios runs it on whole machines.
package update
