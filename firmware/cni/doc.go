// Package cni gives pods a network where nobody else does: it keeps one CNI configuration file of its own in the folder that the
// container runtime reads, and takes it away as soon as another CNI's is there.
//
//	k := cni.New(cni.Options{Node: "gw-1", Desired: desired, Watch: watch, Runtime: client, Masquerade: true})
//	go k.Run(ctx)
//	why := k.Problem() // "" or what a technician has to do
//
// The addresses are those that the cluster gave to the node (Node.spec.podCIDRs), else those of the configuration, else a range that the
// gateway has no route to. Pods get a routed point-to-point link each (the ptp plugin, see docs/adr/0012), so that a change of the
// range touches no pod that runs: it keeps its link and its address, and new pods get new ones.
//
// A [Keeper] writes to that one file only, atomically. Problem may be called at any time; Run has one goroutine. Tests use made-up folders
// and runtimes; hil-tests/network runs it on containerd.
package cni
