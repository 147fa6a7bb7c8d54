// Package pressure lets a gateway run short of memory, disk and process ids for real, and holds what its pods, its node and the cluster make of it:
//
//	go test -tags integration ./hil-tests/pressure     # about half a minute
//
// Control plane, relay, agent and containerd are real, and so is what is eaten. So that it depends on nothing else that runs on the machine, all pods live in
// a cgroup with limits of its own, which the agent takes for the node's capacity, and pods and images are on a small file system of their own.
//
//   - memory: a pod eats it up; of three that use some it is the one that goes, best effort and the most over its request; the others go on.
//   - disk: room is made by an image that nobody uses first, and then by the pod that fills it, whose volumes go with it.
//   - process ids: the pod with the most goes.
//
// Each time the pod has failed as Evicted, the node has the condition, Kubernetes taints it, and both are gone again soon after.
package pressure
