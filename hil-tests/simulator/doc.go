// Package simulator is Modbus devices and OPC UA servers that somebody can try a gateway with: points that move by themselves, setpoints that can be
// written and that others follow, and faults on request. One YAML file describes them all (docs/simulators.md); the command is skerry-sim.
//
// # Usage
//
//	cfg, err := simulator.Parse(yaml)
//	s, err := simulator.Start(cfg, log)
//	defer s.Close()
//	s.Device("boiler").SetFault(simulator.Fault{Kind: simulator.Mute})
//
// It is for demonstrations, trainings and tests of what an operator sees. What holds the drivers to the protocols are peers that others wrote
// (hil-tests/modbus, hil-tests/opcua).
//
// # Concurrency
//
// All methods may be called concurrently. Close waits for what Start has started.
//
// # Testing
//
// Its tests read and write it with goburrow's client over TCP, with our driver over its pseudo-terminal, and with gopcua's client.
package simulator
