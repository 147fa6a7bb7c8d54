// Package agent puts the parts of skerryd together and keeps them running: store, link, pods, devices, health.
//
// [Run] opens the store, which is the only part whose failure ends the agent (nothing can be promised without it), and
// then supervises the others: each is started anew when it fails, and none takes another with it. Pods and devices start
// from the store at once, whether or not a relay answers, and whether or not this gateway has an identity yet.
//
// Run is all there is to call. It blocks until its context ends, and then stops the parts and closes the store; pods go
// on running. The wiring is tested end to end by the tests in hil-tests; the supervisor and the event recorder by unit
// tests here.
package agent
