// Package board is what Skerry knows of the hardware that it runs on. It is a contract: it imports nothing else of
// Skerry's, and what differs between boards is data here and not an if elsewhere.
//
// A [Descriptor] says what one kind of board has: memory and the agent's budget, disk and slots, serial ports, CAN, GPIO, lights,
// watchdog, clock, TPM, network. Each is a small YAML file (boards/*.yaml, compiled in; docs/boards.md is the reference), and a folder on
// the device may bring others or change these:
//
//	lib := board.Library{Dir: board.DefaultDir}
//	choice, err := lib.Choose(cfg.Board.Name, board.Identify("/")) // named, recognised, or generic for the architecture
//
// Errors name the file, its line, the key, the value and what is allowed. board/inspect compares a descriptor with the machine.
//
// [Describe] reads the facts that a node reports about itself. It never fails: a gateway without a machine-id is still a
// gateway, and the field is then empty.
//
// All functions are safe for concurrent use; descriptors are not changed after they are loaded. Tests read made-up /proc, /sys and /etc
// trees; the decoder is fuzzed, and every board that is compiled in is checked.
package board
