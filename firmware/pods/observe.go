package pods

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/regular"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Labels and annotations by which the runtime remembers what belongs to what. All but labelNode are the kubelet's own
// (k8s.io/kubelet/pkg/types and pkg/kubelet/kuberuntime/labels.go), so that crictl and other tools show pods properly.
const (
	labelPodName       = "io.kubernetes.pod.name"
	labelPodNamespace  = "io.kubernetes.pod.namespace"
	labelPodUID        = "io.kubernetes.pod.uid"
	labelContainer     = "io.kubernetes.container.name"
	labelNode          = "io.skerry.node"
	annoHash           = "io.kubernetes.container.hash"
	annoRestarts       = "io.kubernetes.container.restartCount"
	annoTermPath       = "io.kubernetes.container.terminationMessagePath"
	annoTermPolicy     = "io.kubernetes.container.terminationMessagePolicy"
	annoGrace          = "io.kubernetes.pod.terminationGracePeriod"
	annoTermFile       = "io.skerry.terminationMessageFile" // on the host; empty: none
	maxTermMessage     = 4096                               // bytes, as in Kubernetes
	maxTermMessageLogs = 2048                               // bytes taken from the log with FallbackToLogsOnError
)

// sandboxState is one sandbox of a pod.
type sandboxState struct {
	id      string
	attempt uint32
	ready   bool
	created int64 // ns
	file    bool  // of a static pod
}

// containerState is one container of a pod, running or not.
type containerState struct {
	id, name, sandbox string
	state             cri.ContainerState
	created           int64     // ns
	started, finished time.Time // by the runtime's clock, for the status
	began, ended      time.Time // the same by this process's monotonic clock (moment), for all that is counted; zero: not, or not known
	exitCode          int32
	reason, message   string
	image, imageRef   string
	restarts          int32
	hash              string
	logPath           string
	grace             int64                        // s, from the pod that it was started for
	termFile          string                       // where it leaves its termination message, on the host; "": nowhere
	termPolicy        string                       // terminationMessagePolicy
	user              *corev1.ContainerUser        // nil: the runtime does not tell
	stopSignal        string                       // "": likewise
	resources         *corev1.ResourceRequirements // that it was made with; nil: nobody knows
}

// observation is what the runtime has of one pod. Both lists are newest first.
type observation struct {
	sandboxes  []sandboxState
	containers []containerState
	ips        []string // of the newest sandbox, if it is ready
}

// sandbox returns the newest sandbox if it is usable.
func (o *observation) sandbox() *sandboxState {
	if len(o.sandboxes) > 0 && o.sandboxes[0].ready {
		return &o.sandboxes[0]
	}
	return nil
}

// newest returns the newest container of a name, nil if there is none.
func (o *observation) newest(name string) *containerState {
	for i := range o.containers {
		if o.containers[i].name == name {
			return &o.containers[i]
		}
	}
	return nil
}

// inSandbox returns the newest container of a name in one sandbox.
func (o *observation) inSandbox(name, sandbox string) *containerState {
	for i := range o.containers {
		if o.containers[i].name == name && o.containers[i].sandbox == sandbox {
			return &o.containers[i]
		}
	}
	return nil
}

// lastExited returns the newest container of a name that has ended, other than skip.
func (o *observation) lastExited(name, skip string) *containerState {
	for i := range o.containers {
		c := &o.containers[i]
		if c.name == name && c.id != skip && c.state == cri.ContainerExited {
			return c
		}
	}
	return nil
}

// running reports whether any container runs.
func (o *observation) running() bool {
	return slices.ContainsFunc(o.containers, func(c containerState) bool { return c.state == cri.ContainerRunning })
}

func (o *observation) sort() {
	slices.SortFunc(o.sandboxes, func(a, b sandboxState) int {
		return cmp.Or(cmp.Compare(b.attempt, a.attempt), cmp.Compare(b.created, a.created))
	})
	slices.SortFunc(o.containers, func(a, b containerState) int {
		// Restart counts order the containers of one name even if the clock was set back in between.
		return cmp.Or(cmp.Compare(b.restarts, a.restarts), cmp.Compare(b.created, a.created))
	})
}

// observer asks the runtime about one pod. What can no longer change (details of a container in a given state) is asked once.
type observer struct {
	rt    Runtime
	node  string
	uid   string
	cache map[string]containerState // by container id
	last  time.Time                 // when cache was true; zero: never
	print uint64                    // fingerprint of what lookAt has seen

	killedForMemory func(container string) bool

	clocks *clocks
	ipsOf  string // sandbox that ips belong to
	ips    []string
}

func newObserver(o *Options, uid string, c *clocks) *observer {
	return &observer{rt: o.Runtime, node: o.Node, uid: uid, killedForMemory: o.KilledForMemory, clocks: c, cache: map[string]containerState{}}
}

// observe returns what the runtime has now.
func (v *observer) observe(ctx context.Context) (*observation, error) {
	asked := time.Now()
	selector := map[string]string{labelNode: v.node, labelPodUID: v.uid}
	sandboxes, err := v.rt.ListPodSandbox(ctx, &cri.PodSandboxFilter{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	containers, err := v.rt.ListContainers(ctx, &cri.ContainerFilter{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	obs := new(observation)
	for _, s := range sandboxes {
		st := sandboxState{id: s.ID, ready: s.State == cri.SandboxReady, created: s.CreatedAt, file: s.Annotations[annoConfigHash] == v.uid}
		if s.Metadata != nil {
			st.attempt = s.Metadata.Attempt
		}
		obs.sandboxes = append(obs.sandboxes, st)
	}
	fresh := make(map[string]containerState, len(containers))
	for _, c := range containers {
		st, ok := v.cache[c.ID]
		if !ok || st.state != c.State {
			if st, err = v.inspect(ctx, c); errors.Is(err, cri.ErrNotFound) {
				continue
			} else if err != nil {
				return nil, err
			}
			v.date(&st, v.cache[c.ID].began)
		}
		fresh[c.ID] = st
		obs.containers = append(obs.containers, st)
	}
	v.cache, v.last = fresh, asked
	obs.sort()
	if sb := obs.sandbox(); sb != nil {
		if err := v.address(ctx, sb.id); err != nil {
			return nil, err
		}
		obs.ips = v.ips
	}
	return obs, nil
}

// address finds the addresses of a ready sandbox. They do not change while it lives.
func (v *observer) address(ctx context.Context, id string) error {
	if v.ipsOf == id {
		return nil
	}
	resp, err := v.rt.PodSandboxStatus(ctx, id, false)
	if err != nil {
		return err
	}
	v.ipsOf, v.ips = id, nil
	if resp.Status != nil && resp.Status.Network != nil && resp.Status.Network.IP != "" {
		v.ips = append(v.ips, resp.Status.Network.IP)
		for _, ip := range resp.Status.Network.AdditionalIPs {
			v.ips = append(v.ips, ip.IP)
		}
	}
	return nil
}

// containerd learns of a kill for want of memory and of the exit by two events, in either order, and what is read here is kept: a
// container that ended by SIGKILL is asked about again for a moment, or it would stay "Error" instead of "OOMKilled". With version 1 of cgroups a shim that is
// slow (seen with 1.6.20) loses the first of them for good, as the cgroup is gone when it looks; then the kernel's log tells.
const (
	exitKilled   = 128 + 9
	reasonOOM    = "OOMKilled"
	killedAsks   = 6
	killedAskGap = 50 * time.Millisecond
)

// containerStatus returns the runtime's status of a container, nil if it has none to tell.
func (v *observer) containerStatus(ctx context.Context, id string) (*cri.ContainerStatus, error) {
	for i := 0; ; i++ {
		resp, err := v.rt.ContainerStatus(ctx, id, false)
		if err != nil {
			return nil, err
		}
		s := resp.Status
		if s == nil || s.State != cri.ContainerExited || s.ExitCode != exitKilled || s.Reason == reasonOOM {
			return s, nil
		}
		if i == killedAsks {
			if v.killedForMemory(id) {
				s.Reason = reasonOOM
			}
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(killedAskGap):
		}
	}
}

func (v *observer) inspect(ctx context.Context, c cri.Container) (containerState, error) {
	s, err := v.containerStatus(ctx, c.ID)
	if err != nil {
		return containerState{}, err
	}
	if s == nil {
		s = &cri.ContainerStatus{State: c.State, CreatedAt: c.CreatedAt, Image: c.Image, ImageRef: c.ImageRef, Annotations: c.Annotations}
	}
	st := containerState{
		id: c.ID, name: c.Labels[labelContainer], sandbox: c.PodSandboxID, state: s.State, created: s.CreatedAt,
		started: fromNano(s.StartedAt), finished: fromNano(s.FinishedAt), exitCode: s.ExitCode, reason: s.Reason, message: s.Message,
		imageRef: cmp.Or(s.ImageRef, c.ImageRef), hash: s.Annotations[annoHash], logPath: s.LogPath,
		user: userOf(s.User), stopSignal: s.StopSignal.String(),
		resources: decodeResources(s.Annotations[annoResources]),
		termFile:  s.Annotations[annoTermFile], termPolicy: s.Annotations[annoTermPolicy],
	}
	if c.Metadata != nil {
		st.restarts = int32(min(c.Metadata.Attempt, 1<<30)) //nolint:gosec // bounded
	}
	if n, err := strconv.ParseInt(s.Annotations[annoRestarts], 10, 32); err == nil {
		st.restarts = int32(n)
	}
	st.grace = defaultGrace
	if n, err := strconv.ParseInt(s.Annotations[annoGrace], 10, 32); err == nil && n >= 0 {
		st.grace = n
	}
	if s.Image != nil {
		st.image = cmp.Or(s.Image.UserSpecifiedImage, s.Image.Image)
	}
	if st.state == cri.ContainerExited {
		if msg := terminationMessage(&st); msg != "" {
			st.message = msg
		}
	}
	return st, nil
}

// terminationMessage returns what the container left in its termination message file, or, with FallbackToLogsOnError and a
// failed container, the end of its log.
func terminationMessage(c *containerState) string {
	if c.termFile == "" {
		return ""
	}
	if msg := readHead(c.termFile, maxTermMessage); msg != "" {
		return msg
	}
	if c.termPolicy == "FallbackToLogsOnError" && c.exitCode != 0 && c.logPath != "" {
		return tailLog(c.logPath, maxTermMessageLogs)
	}
	return ""
}

// readHead reads at most limit bytes of a regular file; a container may have put anything else there.
func readHead(path string, limit int64) string {
	f, _, err := regular.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // read only
	b, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(b)
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
