// Package alarm decides when a property of a device is in alarm, in the terms of ISA-18.2: setpoints (high, highHigh, low, lowLow) or a
// condition, a deadband (hysteresis), on-delay and off-delay, a priority (severity). It is pure logic: no I/O, no clock of its own.
//
// # Usage
//
//	cfgs, err := alarm.Parse("spec.properties[temp].visitors.configData.alarms", "temp", raw)
//	a := alarm.New(cfgs[0], record)                   // record: what was kept of an earlier run
//	if t, changed := a.Update(value, now); changed {  // t says from which level to which
//	}
//	if at := a.Due(); !at.IsZero() { … }              // a delay ends then: call Update again with the same value
//
// Each setpoint has a latch of its own with its own delays: a value that goes on from high to highHigh within the on-delay of high raises
// high in time, and highHigh when its own delay is over. The alarm's level is that of the gravest latch.
//
// While the quality is bad an alarm holds its level (the default), clears, or is itself an alarm (onBad).
//
// # Concurrency
//
// A Config is immutable. An Alarm belongs to one goroutine.
//
// # Testing
//
// Tables of values over time, with made-up times; no sleeping.
package alarm
