// Package cloud holds what crosses between an agent and its relay over the stream service "cloud": HTTP/1.1 requests of the
// agent to what a relay offers a node. Agent and relay share it.
//
// # Who asks
//
// The node is the one that the session proved to be. Nothing in a request names it.
//
// # Service account tokens
//
// The agent sends TokenRequest as JSON to TokenPath. The relay answers 200 with Token, or another status with Refusal. A request
// names the pod (with its UID), and one of the tokens that this pod's own projected volumes ask for; there is no other. Bodies are at most
// MaxRequest and MaxAnswer bytes, checked before they are read.
//
// All functions are pure and safe for concurrent use. Tests: round trips, limits, fuzzed decoders.
package cloud
