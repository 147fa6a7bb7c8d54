// Package pods runs the pods that the desired view holds, with the observable behaviour of a kubelet: containers, restarts
// and their back-off, volumes, environment, probes, graceful termination, status and conditions, and the node's status.
//
//	m, err := pods.New(pods.Options{Node: "gw-1", Runtime: client, Desired: desired, Watch: …, Reports: link, Events: recorder,
//		Dir: "/var/lib/skerry/pods", LogDir: "/var/log/pods"})
//	err = m.Run(ctx) // until ctx ends; containers keep running
//
// # How it works
//
// Reconciliation is level-triggered. Each pod has one worker goroutine; whenever it is woken it reads the desired pod and the
// runtime's sandboxes and containers of that pod, plans (plan.go, pure), acts, and reports the status (status.go, pure) if
// it changed. A worker is woken by a change of the pod or of what it references, by a relist that saw another state of the
// runtime, and by its own timers (back-off, probes).
//
// The runtime is the only memory of what runs: sandboxes and containers carry the kubelet's labels and annotations, and the
// label io.skerry.node, without which nothing is ever touched. So an agent that was killed at any instant finds all
// its containers again. What the runtime cannot tell (a pod's start time, its conditions' transition times, a final phase) is in
// one small file per pod, Dir/UID/status, that may be lost without harm.
//
// A reference that the cluster does not have (an Absent object) and one that has not arrived yet are told apart: only
// the first satisfies "optional: true".
//
// What is not supported is refused before anything is started: the pod stays Pending with reason Unsupported, and a message,
// conditions and an event that name the field and the remedy (fields.go is the table of what is accepted). It does not fail, because
// controllers would replace a failed pod at once, without end.
//
// # Where things are
//
//	manager.go, relist.go                                 which pods there are, and who looks after each
//	worker.go, plan.go, drive.go, starter.go, stop.go     one pod, from its arrival to its end
//	status.go, final.go, fail.go, keep.go                 what is said of it, how it ends before its time, what is kept
//	admit.go, preempt.go, resize.go                       whether the node has room for it
//	evict.go, evictdisk.go, storagelimits.go, imagegc.go  what happens when the node runs short
//	static.go, mirror.go                                  pods from files on the gateway
//	node.go, shutdown.go                                  the node itself
//
// # Concurrency
//
// Run is called by one goroutine at a time, all other methods of a Manager by any. Interfaces in Options are called by many goroutines at once.
// Nothing outlives Run. No file is read and no runtime asked while Manager.mu is held.
//
// # Testing
//
// Unit tests drive the manager against a hand-written runtime inside testing/synctest; hil-tests/pods (build tag integration)
// runs it against a real containerd.
package pods
