// Package cri holds firmware/cri, whose messages are written by hand, to the real thing: k8s.io/cri-api's own types and a
// grpc-go server. It has only tests, and a module of its own so that neither is ever linked into the agent.
//
// Every message of firmware/cri is found in its source and must be in the tests' table; every field of cri-api's message of that
// name must be in ours, under the same name and number and in a type that loses nothing, or in the list of fields
// left out on purpose.
package cri
