package pods

import (
	"fmt"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// runtimeHandler returns the handler that a pod's runtimeClass names; "" is the runtime's own default. A class that does not exist
// keeps the pod from starting, as at a kubelet: to run it elsewise might be to run it without the isolation that it asks for.
func runtimeHandler(desired Desired, spec *corev1.PodSpec) (string, error) {
	if spec.RuntimeClassName == nil || *spec.RuntimeClassName == "" {
		return "", nil
	}
	name := *spec.RuntimeClassName
	o, ok := desired.Get(wire.NewKey(wire.KindRuntimeClass, "", name, ""))
	switch {
	case !ok:
		return "", fmt.Errorf("failed to get sandbox runtime: RuntimeClass %q has not arrived at this node yet%s", name, olderRelay)
	case o.Absent:
		return "", fmt.Errorf("failed to get sandbox runtime: RuntimeClass %q not found as of revision %d: create it, or remove runtimeClassName", name, o.Revision)
	}
	var class corev1.RuntimeClass
	if _, err := class.UnmarshalMsg(o.Body); err != nil {
		return "", fmt.Errorf("failed to get sandbox runtime: RuntimeClass %q cannot be decoded: %w", name, err)
	}
	return class.Handler, nil
}

// olderRelay says why what a pod refers to may not come.
const olderRelay = " (a relay of an older release does not send it: upgrade the relay)"

// overheadResources is what the sandbox itself takes, for runtimes that size it by that.
func overheadResources(spec *corev1.PodSpec) *cri.LinuxContainerResources {
	if len(spec.Overhead) == 0 {
		return nil
	}
	cpu := milli(spec.Overhead["cpu"])
	out := &cri.LinuxContainerResources{CPUShares: cpuShares(cpu), MemoryLimitInBytes: whole(spec.Overhead["memory"])}
	if quota := cpuQuota(cpu); quota > 0 {
		out.CPUQuota, out.CPUPeriod = quota, quotaPeriod
	}
	return out
}
