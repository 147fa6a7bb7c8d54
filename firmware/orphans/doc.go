// Package orphans gives back what a container runtime that was killed has lost: it does not know of it any more, and so no client can ask it to
// remove it. A runtime that is killed while it makes or removes a pod sandbox leaves
//
//   - the sandbox's shim, with the processes in it: some 10 MB of memory each,
//
//   - its network namespace, with a link to the host,
//
//   - its address: a node with a /24 has 250 of them.
//
//     s := orphans.New(orphans.Options{Runtime: client})
//     go s.Run(ctx)
//
// It looks once a minute. What no sandbox owns at every look for [Options.After] is removed: shims and their processes are killed, namespaces are
// unmounted, addresses go back by the CNI plugins' own DEL (CNI specification 1.1, section 2), which also removes the rules of host ports. Shims
// are those of the runtime's own socket and namespace only whose container is no other tool's, network namespaces those in the runtime's own folder that hold no process, and
// addresses those of the network that the runtime uses, given to a container that no other tool has in CNI's cache, and in whose network namespace no process is.
//
// This is about containerd, which tells where all of that is in its verbose status. Other runtimes tell nothing, and nothing is done.
//
// A [Sweeper] has one goroutine, Run's. Tests use a made-up machine; hil-tests/chaos kills containerd and counts what is left.
package orphans
