// Command demo is Skerry's main job, shown on one machine: a real Kubernetes control plane, the relay, real containerd, a
// Modbus device that we did not write, an OPC UA server of our own, and an agent that joins with a token, all on loopback. It walks through what an
// operator cares about as steps with a tick and the time each took, and ends with a live table.
//
// Use `make demo`; with -once it ends after the steps, and exits 0 only if every step held. Whatever it started ends with
// it, and its folder is removed unless -keep is given.
package main
