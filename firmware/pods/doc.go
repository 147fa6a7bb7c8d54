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
// # Concurrency
//
// A Manager is run by one goroutine at a time. Status may be called by any goroutine. Interfaces in Options are called by many goroutines at once.
// Nothing outlives Run.
//
// # Testing
//
// Unit tests drive the manager against a hand-written runtime inside testing/synctest; hil-tests/pods (build tag integration)
// runs it against a real containerd.
package pods
