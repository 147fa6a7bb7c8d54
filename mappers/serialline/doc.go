// Package serialline opens serial lines for the drivers that speak over them (Modbus RTU and ASCII, serial devices).
//
// # Usage
//
//	fields := device.NewFields("spec.protocol.configData", data)
//	cfg := serialline.FromFields(fields)          // every driver accepts the same field names; Describe documents them
//	keeper := serialline.NewKeeper(func() (serialline.Line, error) { return serialline.Open(cfg) })
//	line, err := keeper.Line()                    // opens the port, or says why it cannot; obeys a back-off
//	err = line.Discard()                          // what came before the request answers nothing
//	_, err = line.Write(request)                  // back when the last bit has left, echo already swallowed
//	_ = line.SetDeadline(time.Now().Add(timeout))
//	n, err := line.Read(buf)                      // at least one byte, os.ErrDeadlineExceeded, or the line is gone
//	if err != nil { keeper.Drop() }               // the next Line opens it again, by its path
//
// # Parts
//
//   - config.go, fields.go, timing.go: settings, their configData and the arithmetic of characters; pure
//   - line.go, keeper.go, echo.go: what drivers see; the back-off of a port that is gone; lines on which we hear ourselves
//   - port.go, lock.go, modem.go: the port itself, on Linux
//   - tcp.go: the same Line over TCP, for serial servers
//   - capture.go, witness.go: every byte in both directions into a bounded file, for as long as a device of the line wants that
//
// go.bug.st/serial opens the port and sets its mode. Reading and writing go through a second descriptor of our own, because
// the library waits in select(2): that pins a thread to every port, and panics once a descriptor is 1,024 or more.
//
// # Concurrency
//
// A Line belongs to one goroutine, which reads and writes; SetDeadline and Close may be called by others to interrupt it. The
// port is exclusive: TIOCEXCL and flock(2) keep other programs away, and other drivers of the same process too.
//
// # Testing
//
// Package linetest has pseudo-terminals for tests of the real port, and a line with scripted timing for testing/synctest.
package serialline
