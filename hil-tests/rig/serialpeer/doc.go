// Package serialpeer runs serial lines and devices that we did not write: pseudo-terminals of socat, pyserial behind them, and gpsd with
// its receivers' logs.
//
// # Usage
//
//	line, err := serialpeer.StartLine(ctx, dir)            // line.Port for the driver, line.Device for the device
//	scale, err := serialpeer.StartDevice(ctx, line, "scale")
//	err = line.Unplug()                                    // and line.Plug
//
// # Concurrency
//
// A Line belongs to one goroutine. Stop what was started, devices before their lines.
//
// # Testing
//
// hil-tests/serial and hil-tests/e2e use it. It needs socat, python3-serial, gpsd and gpsd-clients.
package serialpeer
