// Package identity tests who a fleet's gateways are over years, in minutes: certificates that live for 20 seconds, a CA that is
// replaced while they rotate under load, a gateway that sleeps through it all, revocation at every relay, restoration, and a CA
// whose key was stolen. Relays and control plane are real processes, gateways are the fleet simulator's with real identities
// on the disk and real renewals; one gateway is skerryd itself.
//
//	SKERRY_BIN=/path/to/bin go test -tags integration -count=1 ./hil-tests/identity
package identity
