package kubeletapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// podSample is what is known of a pod with containers that run, at one moment.
type podSample struct {
	pod        Pod
	sandbox    string // id; "" if it is not known
	group      cgroup // of the whole pod
	grouped    bool   // whether there is one
	figures    figures
	containers []containerSample
	network    []netCount // of its own namespace; empty: it has none
}

type containerSample struct {
	name    string
	image   string
	started *time.Time
	stats   *cri.ContainerStats
	group   cgroup
	grouped bool
	figures figures
}

// sample counts what the node's pods use, in the order of their names. deep reads the containers' cgroups and network
// namespaces, too.
func (s *Server) sample(ctx context.Context, deep bool) ([]podSample, error) {
	list, err := s.o.Runtime.ListContainerStats(ctx, nil)
	if err != nil {
		return nil, err
	}
	byPod := newest(list)
	var sandboxes map[string]string
	if deep {
		if sandboxes, err = s.sandboxes(ctx); err != nil {
			return nil, err
		}
	}
	pods := s.o.Pods.All()
	slices.SortFunc(pods, func(a, b Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name+"/"+a.UID, b.Namespace+"/"+b.Name+"/"+b.UID)
	})
	out := make([]podSample, 0, len(pods))
	for _, p := range pods {
		containers := byPod[p.UID]
		if len(containers) == 0 {
			continue
		}
		x := podSample{pod: p, sandbox: sandboxes[p.UID]}
		if s.o.Group != nil {
			x.group, x.grouped = openGroup(s.o.Group(p.UID))
		}
		if x.grouped {
			x.figures = x.group.figures()
		}
		if deep && x.grouped && !p.HostNetwork {
			if g, ok := x.group.child(x.sandbox); ok {
				x.network = s.podNetwork(g)
			}
		}
		for _, c := range containers {
			x.containers = append(x.containers, containerOf(p, c, &x, deep))
		}
		slices.SortFunc(x.containers, func(a, b containerSample) int { return strings.Compare(a.name, b.name) })
		out = append(out, x)
	}
	return out, nil
}

// newest returns the containers that run, by pod. Runtimes list those that have ended, too, without figures; a container that was started
// again is there once.
func newest(list []cri.ContainerStats) map[string][]*cri.ContainerStats {
	type key struct{ uid, name string }
	best := map[key]*cri.ContainerStats{}
	attempt := func(c *cri.ContainerStats) uint32 {
		if c.Attributes.Metadata == nil {
			return 0
		}
		return c.Attributes.Metadata.Attempt
	}
	for i := range list {
		c := &list[i]
		if c.Attributes == nil || c.CPU == nil && c.Memory == nil {
			continue
		}
		k := key{c.Attributes.Labels[labelPodUID], c.Attributes.Labels[labelContainer]}
		if was := best[k]; was == nil || attempt(c) > attempt(was) {
			best[k] = c
		}
	}
	out := map[string][]*cri.ContainerStats{}
	for k, c := range best {
		out[k.uid] = append(out[k.uid], c)
	}
	return out
}

// sandboxes returns the ids of the pods' sandboxes that are ready, by pod.
func (s *Server) sandboxes(ctx context.Context) (map[string]string, error) {
	list, err := s.o.Runtime.ListPodSandbox(ctx, &cri.PodSandboxFilter{State: new(cri.SandboxReady)})
	if err != nil {
		return nil, err
	}
	at, out := map[string]int64{}, map[string]string{}
	for i := range list {
		if uid := list[i].Labels[labelPodUID]; list[i].CreatedAt >= at[uid] {
			at[uid], out[uid] = list[i].CreatedAt, list[i].ID
		}
	}
	return out, nil
}

func containerOf(p Pod, c *cri.ContainerStats, x *podSample, deep bool) containerSample {
	out := containerSample{name: c.Attributes.Labels[labelContainer], stats: c, figures: figures{}}
	if st := statusOf(p.Status, out.name); st != nil {
		out.image = st.Image
		if st.State.Running != nil && st.State.Running.StartedAt != nil {
			out.started = &st.State.Running.StartedAt.Time
		}
	}
	if deep && x.grouped {
		if out.group, out.grouped = x.group.child(c.Attributes.ID); out.grouped {
			out.figures = out.group.figures()
		}
	}
	// What the runtime says goes first: /metrics/resource has nothing else, and the two should agree.
	if u := c.CPU; u != nil {
		out.figures.put(cpuNanos, u.UsageCoreNanoSeconds)
	}
	if m := c.Memory; m != nil {
		out.figures.put(memUsage, m.UsageBytes)
		out.figures.put(memWorkingSet, m.WorkingSetBytes)
		out.figures.put(memRSS, m.RSSBytes)
		out.figures.put(memFaults, m.PageFaults)
		out.figures.put(memMajorFaults, m.MajorPageFaults)
	}
	if w := c.Swap; w != nil {
		out.figures.put(memSwap, w.SwapUsageBytes)
	}
	return out
}
