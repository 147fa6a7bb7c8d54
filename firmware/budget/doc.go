// Package budget derives what the agent may hold and do at a time from the one figure that a board's file gives, memory.budget
// (docs/boards.md has the table):
//
//	limits := budget.Of(int64(board.Memory.Budget))
//	debug.SetMemoryLimit(limits.Heap)
//
// All of it is pure and safe for concurrent use. Tests hold the manual's table to what is derived.
package budget
