// Package members lets the relays of one cluster know of each other, through one Lease for each: skerry-system/skerry-relay-NAME,
// with the label skerry.dev/relay=true. Annotations say under which address gateways can dial this very replica, how many
// agents it has, and that it drains.
//
//	m := members.New(members.Options{Client: c, Name: "relay-a", Address: "192.0.2.7:7443", Agents: hub.Count})
//	go m.Run(ctx)                // joins, renews every 5 s, follows the others; takes its Lease away when ctx ends
//	m.Drain()                    // nobody is sent here any more
//	m.Elsewhere()                // where the agents of a relay that drains should go
//	m.Alive()["relay-b"]         // whether relay-b lives
//
// # Who is alive
//
// No two clocks are compared. A relay is alive while its Lease changes: it counts as dead once this relay has seen no change of it for
// Duration by its own monotonic clock, and has seen three renewals of its own Lease come through the same watch since. The
// second condition keeps a relay that has lost the API server, or whose watch lags, from declaring all others dead: whoever is
// blind does not judge. A Lease that is seen for the first time has Duration to change. Leases of relays that were killed are
// deleted by the others after ten minutes.
//
// It costs the API server one update in five seconds and one watch for each relay, whatever the number of agents.
//
// # Concurrency
//
// All methods may be called from anywhere; none but Run blocks.
//
// # Tests
//
// Unit tests run several members against client-go's fake API server in a synctest bubble, with watches that lag, and count the
// requests. hil-tests/relays does the same with real processes and the real API server.
package members
