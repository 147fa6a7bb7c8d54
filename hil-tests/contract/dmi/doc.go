// Package dmi holds firmware/dmi to the real thing: a mapper that is made of github.com/kubeedge/api's own generated gRPC client and server registers
// with the agent's DMI service, with the agent's device host behind it. It has only tests, and a module of its own so that grpc-go is never linked
// into the agent. The folder example is a whole mapper, as docs/dmi.md explains it; a test builds it and runs it as a process of its own.
package dmi
