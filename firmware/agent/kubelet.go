package agent

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/kubeletapi"
	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// kubeletPods shows the node's pods to the kubelet API.
type kubeletPods struct {
	pods    *pods.Manager
	desired *store.Desired
}

func (k kubeletPods) Pod(namespace, name string) (kubeletapi.Pod, bool) {
	v, ok := k.pods.Pod(namespace, name)
	if !ok {
		return kubeletapi.Pod{}, false
	}
	return k.show(v), true
}

func (k kubeletPods) All() []kubeletapi.Pod {
	views := k.pods.Pods()
	out := make([]kubeletapi.Pod, 0, len(views))
	for _, v := range views {
		p := k.show(v)
		if o, ok := k.desired.Get(v.Key); ok {
			p.Body = o.Body
		}
		out = append(out, p)
	}
	return out
}

func (kubeletPods) show(v pods.PodView) kubeletapi.Pod {
	p := kubeletapi.Pod{
		Namespace: v.Key.Namespace(), Name: v.Key.Name(), UID: v.Key.UID(), Status: v.Status,
		HostNetwork: v.Spec.HostNetwork, Dir: v.Dir, Claims: v.Claims,
	}
	for _, list := range [][]corev1.Container{v.Spec.InitContainers, v.Spec.Containers, v.Spec.EphemeralContainers} {
		p.Containers = slices.Grow(p.Containers, len(list))
		for i := range list {
			p.Containers = append(p.Containers, kubeletapi.Container{Name: list[i].Name, TTY: list[i].TTY, Stdin: list[i].Stdin})
		}
	}
	return p
}

// noPods is what a gateway has that takes none.
type noPods struct{}

func (noPods) Pod(string, string) (kubeletapi.Pod, bool) { return kubeletapi.Pod{}, false }
func (noPods) All() []kubeletapi.Pod                     { return nil }

// newKubelet makes what `kubectl logs`, `kubectl exec` and `skerryctl node diagnose` end at. Without pods there is the last one only, and what is about the node.
func (a *Agent) newKubelet() (*kubeletapi.Server, error) {
	o := kubeletapi.Options{
		Node: a.cfg.Node.Name, Pods: noPods{}, Runtime: a.runtime,
		LogDir: a.cfg.Pods.LogDir, Dir: a.cfg.Pods.RootDir, Log: a.log.With("part", "kubelet"),
		Config: a.kubeletConfig, Version: kubeletVersion(), Diagnose: a.diagnose,
		Expires: func() time.Time { return a.renewer.Status().NotAfter }, MaxRequests: a.limits.Requests,
		NoFollow: a.shed.noFollow,
	}
	if a.pods != nil {
		o.Pods, o.Group, o.Probes = kubeletPods{a.pods, a.desired}, a.pods.Group, a.probeCounts
	}
	return kubeletapi.New(o)
}

func (a *Agent) probeCounts() []kubeletapi.ProbeCount {
	list := a.pods.ProbeCounts()
	out := make([]kubeletapi.ProbeCount, 0, len(list))
	for _, c := range list {
		out = append(out, kubeletapi.ProbeCount(c))
	}
	return out
}

// kubeletConfig is what of a kubelet's configuration the agent has, under the kubelet's names (kubelet.config.k8s.io/v1beta1), for those who
// read /configz.
func (a *Agent) kubeletConfig() map[string]any {
	return map[string]any{
		"maxPods": a.cfg.Pods.Max, "podPidsLimit": a.cfg.Pods.Pids, "staticPodPath": a.cfg.Pods.StaticDir, "clusterDomain": a.cfg.Pods.ClusterDomain,
		"containerLogMaxSize": strconv.FormatInt(int64(a.cfg.Pods.Logs.MaxSize), 10), "containerLogMaxFiles": a.cfg.Pods.Logs.MaxFiles,
		"imageGCHighThresholdPercent": a.cfg.Pods.Images.High, "imageGCLowThresholdPercent": a.cfg.Pods.Images.Low,
		"maxParallelImagePulls": a.cfg.Pods.Images.Parallel, "serializeImagePulls": a.cfg.Pods.Images.Parallel == 1,
		"containerRuntimeEndpoint": "unix://" + a.runtime.Socket(), "allowedUnsafeSysctls": a.cfg.Pods.Sysctls, "failSwapOn": false,
		"nodeStatusUpdateFrequency": "10s", "podLogsDir": a.cfg.Pods.LogDir, "evictionMaxPodGracePeriod": int(a.cfg.Node.Eviction.MaxPodGracePeriod / time.Second),
		"evictionHard": a.cfg.Node.Eviction.Hard, "evictionSoft": a.cfg.Node.Eviction.Soft,
		"evictionPressureTransitionPeriod": a.cfg.Node.Eviction.TransitionPeriod.String(),
	}
}

// serveKubelet answers what relays ask through the link.
func (a *Agent) serveKubelet(ctx context.Context) error {
	l, err := a.link.Listen(wire.ServiceKubelet)
	if err != nil {
		return err
	}
	return a.kubelet.Serve(ctx, l)
}
