// Package scenarios plays what happens to a gateway in ten years of service, on whole gateways: QEMU's machines with the image that is flashed on real
// ones, or a board on a bench (docs/hil.md). The control plane, the relay, the Modbus line and the OPC UA server run on this computer.
//
//	make hil                      # both machines
//	make hil-smoke                # one boot of each: boot, enrol, board
//	make hil RIG=bench.yaml       # a board
//	HIL_BOARDS=qemu-arm64 SKERRY_BIN=$PWD/build/bin go test -tags hil ./hil-tests/scenarios -run 'TestGateway/.*/power-cut' -v
//
// A scenario is a function of a world, in the table of scenarios_test.go. It finds a gateway that is on and enrolled, and has to leave one. When one fails,
// console, state of the machine, disk, and the logs of relay and control plane are copied into one folder below build/hil, whose path is printed together
// with the last 50 lines of the console.
//
// The tests of this package that need no gateway run without the tag.
package scenarios
