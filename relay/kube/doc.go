// Package kube is the relay's end towards the Kubernetes API: what the API says is read once, trimmed and encoded once,
// and indexed by node; what agents report is written back with as few requests as possible.
//
// # Reading
//
// Index holds the trimmed objects. One reflector per resource lists and watches; every object is reduced, at once, to the
// canonical bytes that agents receive plus the few fields that the relay itself needs, so that a decoded object never
// stays in memory. The bytes of one version are shared by every agent that needs them.
//
//	index := kube.NewIndex(kube.IndexOptions{Client: dynamicClient, Log: log})
//	go index.Run(ctx)
//	keys, ready := index.Keys("gw-1")
//
// What a node may see: its own Node object, the pods with spec.nodeName = node and the configMaps and secrets that those
// name, the devices with spec.nodeName = node and their models. A referenced object that does not exist has the zero
// wire.Version and is returned with Absent set: agents may rely on that only because Keys and Object answer nothing before
// all caches are complete.
//
// # Writing
//
// Sink takes reports (newest body per key wins) and compares each with what the API holds: an unchanged report costs no
// request. Of what is written it keeps the hash, so that an agent that comes back need not send it again (OfferedAll, Offered); if
// somebody else changes the object (the node controller that marks a node's conditions Unknown, say), the agent is asked for it
// (SinkOptions.Want). Nodes take turns, readiness goes before statistics, and there are budgets for each node and
// for all: turns.go, shares.go.
// DeviceStatus is written at most once per SinkOptions.DeviceInterval and device; what stands there is known from a watch of metadata.
//
// One writer: a session is recorded in the node's Lease. Every write carries the resourceVersion that it was based on; on a
// conflict the Lease is read, and a session that is no longer the node's own stops writing. A session that begins at the relay
// that holds the Lease costs no request. docs/relay.md ("One writer") has the whole argument, Sink.confirm the rule.
//
// # Concurrency
//
// All exported methods may be called concurrently. Index.Run and Sink.Run block until their context ends and have then
// stopped everything that they started.
//
// # Testing
//
// Unit tests run Index and Sink on an API server in memory, in a bubble of virtual time, and count requests. Behaviour that a fake cannot show (resourceVersion preconditions, status
// subresources, deletion with grace 0, the node controller) is tested against a real control plane in hil-tests/relay.
package kube
