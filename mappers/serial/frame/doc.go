// Package frame cuts a stream of bytes into frames and checks them: the framings and checksums that serial devices use. It does no
// I/O and knows no clock.
//
// # Usage
//
//	format := frame.Format{Kind: frame.Delimited, Delimiter: []byte("\r\n"), Max: 1024}
//	s := frame.NewScanner(format)
//	s.Push(received, func(payload []byte) { … })   // payload is only valid within the call
//	s.Silence(func(payload []byte) { … })          // the line was silent for the format's gap
//	out, err := format.Encode(payload)             // the same envelope around what we send
//
// A payload is what is left without delimiters, escapes and checksum; headers that carry a length, and start bytes of frames with a
// length, stay in it, so that offsets are those of the device's manual.
//
// # Concurrency
//
// A Format and an Algorithm are immutable; a Scanner belongs to one goroutine.
//
// # Hostile input
//
// A scanner holds at most Max bytes and a header. The work for each byte is bounded: a stream that looks like the beginning of a
// frame everywhere is dropped in larger pieces. What was dropped is counted.
//
// # Testing
//
// Check values of the catalogue of parametrised CRC algorithms; properties (what Encode made, Push finds, however it is cut) and
// fuzz tests for every framing.
package frame
