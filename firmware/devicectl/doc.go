// Package devicectl is `skerryctl device …` on a gateway: what a commissioning engineer does with devices, from an unknown line to a
// device that is polled.
//
// # Usage
//
//	err := devicectl.Run(ctx, args, devicectl.Env{Stdout: os.Stdout, Stderr: os.Stderr, Socket: cfg.Control.Socket, …})
//
// Most verbs ask the running agent (firmware/control). plan -f and import need none; scan does without one if none runs. Output is for
// people: aligned tables, and errors that say what failed, for which device, why, and what to do; --json prints what the agent answered, for
// scripts. An *ExitError tells how the command ended: 1 it failed, 2 it was called wrongly, 3 it was done and not all is well (a value
// is not good, a write was not confirmed, nothing was found).
//
// # Concurrency
//
// Run uses no state but its arguments.
//
// # Testing
//
// Tests run commands against a control server with a fake host; hil-tests/control runs them against a whole skerryd.
package devicectl
