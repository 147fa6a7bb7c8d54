// Package dmi serves KubeEdge's Device Mapper Interface, v1beta1, to mappers of other people in other processes (docs/dmi.md): the manager's side on
// a Unix socket of the agent, and calls to the mappers' side on theirs.
//
// # Usage
//
//	s, err := dmi.New(dmi.Options{Socket: "/run/skerry/dmi.sock", Registry: registry options, Desired: desired, Watch: watch, …})
//	host, err := devices.New(devices.Options{Others: s.Registry.Driver, …})
//	err = s.Run(ctx)
//
// What mappers hold and when they are told is mappers/dmi's (Registry); here are its I/O: the socket, who may use it (the kernel's word for the peer's
// user and group, SO_PEERCRED of unix(7), before a byte is read), the messages, the list of mappers on disk, and the view of Devices.
//
// # Concurrency
//
// Service is safe for concurrent use; Run is called once at a time.
//
// # Testing
//
// Unit tests speak to the service through the same code, and a fuzz test decodes anything. hil-tests/contract/dmi holds every message to KubeEdge's
// generated code and runs a mapper made of it.
package dmi
