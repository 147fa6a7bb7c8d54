// Package pacedline is a serial line that takes its time: a pseudo-terminal whose bytes arrive when the baud rate says so, with a
// slave at its far end that answers after a computed latency. A pseudo-terminal by itself has no speed.
//
// # Usage
//
//	l, err := pacedline.Open(pacedline.Options{Path: path, Config: cfg, Latency: cfg.FrameGap(), Answer: answer})
//	… a driver opens path …
//	report := l.Report()
//	err = l.Close()
//
// Bytes come to the driver as from a UART with a receive FIFO: up to 8 at a time, the last ones of a frame when the last of its bits
// has. A request that begins less than the standard's 3.5 characters after the last byte that was on the line is counted: a real
// slave would take it for the rest of the frame before it.
//
// # Concurrency
//
// Line's methods may be called concurrently. Answer is called by one goroutine, which has a thread of its own: what is late on it would
// be taken for the driver's slowness.
//
// # Testing
//
// Its test is the ceiling that it enforces: a master that never waits is no faster.
package pacedline
