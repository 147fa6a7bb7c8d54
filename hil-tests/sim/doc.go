// Package sim plays whole installations of Skerry, single-threaded and in virtual time, seed after seed, in worlds from calm to
// hostile, and checks all the while that nothing is lost, overtaken or started too early.
//
// # What is real
//
// link.Machine on each agent; session.Machine for each connection, stream.Mux at both ends of it, kube.Index and kube.Sink on each relay, all of them the code
// that ships. Modelled are the network, the API server with its etcd (resourceVersions, UIDs, deletion with grace, watches
// that lag, break and list anew, conflicts, restore from a backup), the hub between a relay's connections and its machines, the users of streams, the node
// controller, and the agent's store and what stands behind it (containers, devices). The store's model is held to the same suite
// as firmware/store: see firmware/store/storetest.
//
// # Use
//
//	make sim SEEDS=1000              # in all, spread over the worlds; a table
//	make sim WORLD="clocks" SEED=17  # one seed again, with its whole trace
//
//	synctest.Test(t, func(t *testing.T) { res = sim.Run(sim.Options{World: w, Seed: 17}) })
//
// A run belongs in a synctest bubble: the clock of the bubble is the simulator's, and the real code's time.Now() with it. A run
// starts no goroutines; calls that wait for the API server are coroutines (iter.Pull), which run one at a time and only while
// the simulator waits for them. Whatever comes in the order of a map is brought into an order of its own, so a seed gives the
// same trace, byte for byte, each time: Result.Hash is the trace's.
//
// # What is checked
//
// All the time: no commit takes an object back, sends again what is held, or leaves a pod or device without what it refers to;
// no pod starts without what it needs; nothing that was acknowledged is lost in a crash; no live pod is taken away, at an agent or
// in the API; no report is written over a newer one of the same agent; outbox items are stored in order, and none is
// forgotten before; queues stay short; streams carry what was written in order and to its end, or end with a cause, and with their session at the latest; nothing
// of them is sent while something else is due; they hold no more than their windows, and of those nothing is lost or made up. After each round, once the faults have ended: agents hold what the cloud has,
// object by object; the cloud shows the newest report of everything; outboxes are empty; streams have come to their ends; nodes are ready and their Leases fresh.
//
// # Testing the tests
//
// Mutation breaks one thing on purpose. TestMutations names, for each, a world in which one of ten seeds must find it, and the rules that
// may: a mutation without such a world fails the test. That the same mutation is found in other worlds is not claimed.
package sim
