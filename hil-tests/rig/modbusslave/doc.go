// Package modbusslave is a lean Modbus slave for benchmarks: it answers in microseconds, allocates nothing for a request, and notes
// when writes came. It is no model of a device's faults; mappers/modbus/modbustest is.
//
// # Usage
//
//	s := modbusslave.New(modbusslave.Options{Change: 0.1})
//	go s.Serve(listener)                  // Modbus TCP, all units alike
//	reply := s.Answer(dst[:0], unit, pdu) // for other carriers
//	writes := s.TakeWrites()
//
// As a process of its own it is `skerry-bench modbus-slave`, which Process starts and asks over HTTP.
//
// # Concurrency
//
// All methods may be called concurrently. Serve returns when its listener is closed, after its connections have ended.
//
// # Testing
//
// Its tests ask it with the packager of goburrow/modbus, which is not ours.
package modbusslave
