// Package fleet simulates thousands of gateways in one process. Each has a certificate of its own and speaks the real protocol
// through the real code (firmware/link, firmware/wire) to a real relay; only its store is a model that commits in memory and
// keeps versions instead of bodies.
//
//	c, err := fleet.Connect(stack)                      // the cluster's CA and clients
//	ids, err := c.Identities(ctx, names)                // signed with the cluster's CA
//	f := fleet.New(fleet.Options{Addresses: …, Roots: c.Roots(), Identities: ids})
//	f.Start()                                           // all dial at once
//	err = f.Wait(ctx, "in sync", fleet.InSync)
//	err = c.Create(ctx, fleet.Workload{…}, names)       // pods, configMaps, devices
//	late := f.Watch(key); …; took, err := late.Wait(ctx)// when each agent committed the next version of key
//	f.Agents()[7].Network(fleet.Silent)                 // half-open
//	f.Stop()
//
// # The network
//
// Nothing stands between agents and relay but the agent's own socket, wrapped: it counts bytes, and can be made Stalled (nothing
// is read any more), Silent (half-open: what is written vanishes, nothing arrives, not even the end), or be reset. So a fleet of
// N needs N file descriptors, and N ports; loopback has 28,000 for each address, and one more address for each 20,000 agents.
//
// # Concurrency
//
// All methods may be called from anywhere. Start and Stop may be called in turn, again and again: agents keep what they hold,
// as gateways do that were switched off.
//
// # Tests
//
// Unit tests run the model store against linktest's contract and the counting of bytes against crypto/tls; the whole, against a
// real control plane and a real relay process, with
//
//	SKERRY_BIN=build/bin go test -tags integration ./hil-tests/fleet
//
// and with figures `make bench-fleet AGENTS=1000`.
package fleet
