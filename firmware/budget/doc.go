// Package budget derives what the agent may hold and do at a time from the one figure that a board's file gives, memory.budget
// (docs/boards.md has the tables), and decides what the agent does without while memory is short:
//
//	limits := budget.Of(int64(board.Memory.Budget))
//	debug.SetMemoryLimit(limits.Heap)
//	level := shedder.Step(used/limits.Heap, now)
//
// A [Shedder] is a state machine without I/O: it is told how much of Go's memory is in use and answers with a [Level], which rises at once,
// step by step, and falls slowly. Whoever owns it acts on the level.
//
// Of and ForHeap are pure and safe for concurrent use; a Shedder belongs to one goroutine. Tests are tables; the manual's are among them.
package budget
