// Package attack is an attacker: it holds one enrolled gateway's key, or none, and speaks the protocol by hand.
//
//	a := attack.New(relay, roots, identity)         // identity nil: nobody
//	s, err := a.Open(ctx, attack.Hello("gw-1"))     // a session, as an honest agent begins one
//	err = s.Send(&wire.Report{…}); err = s.Raw(…)   // frames, or any bytes
//	why, err := s.Ended(ctx)                        // how the relay ended it
//
// The tests run it against a real skerry-relay and a real control plane while a fleet of honest agents works. Each attempt must
// fail, be counted in a metric and stand in the relay's log with the node (or the address, where no node is known) and the reason,
// leave everybody else's data as it was, and cost the relay bounded memory. Their names are those of docs/security/threat-model.md.
//
//	SKERRY_BIN=build/bin go test -tags integration ./hil-tests/attack
//
// What floods do to the latency of others is a benchmark, since it depends on the machine: `make bench-attack`, which runs Floods.
//
// An Attacker is safe for concurrent use, a Session is for one goroutine that sends and one that receives.
package attack
