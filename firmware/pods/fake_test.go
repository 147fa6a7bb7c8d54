package pods

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// run is what a container does in the fake runtime: it ends by itself after lasts (0: never), and with SIGTERM after dies
// (capped by the grace period, then it is killed).
type run struct {
	lasts time.Duration
	code  int32
	why   string // the runtime's reason
	dies  time.Duration
}

type fakeContainer struct {
	id, box  string
	config   *cri.ContainerConfig
	state    cri.ContainerState
	made     int64
	started  time.Time
	ends     time.Time // zero: not by itself
	finished time.Time
	code     int32
	why      string
	does     run
}

// fakeRuntime is a container runtime without containers: states follow from the clock. Its contract is held against the real one
// in hil-tests/pods.
type fakeRuntime struct {
	mu         sync.Mutex
	n          int
	boxes      map[string]*fakeBox
	containers map[string]*fakeContainer
	images     map[string]*cri.Image
	remote     map[string]bool   // images that can be pulled
	private    map[string]string // of those, the ones that need a password
	programs   map[string]func(attempt uint32) run
	down       error
	stuck      string // name of a container that cannot be stopped
	failCreate error
	calls      map[string]int
	latency    func() time.Duration // of calls that change something; a call that is cut short has done its work all the same
	exec       func(id string, cmd []string) (int32, error)
	execTakes  time.Duration
	stops      []time.Duration   // grace periods that were asked for
	uses       map[string]uint64 // working set of running containers, by name
	layer      map[string]uint64 // what they have written to their writable layers
	updates    []*cri.LinuxContainerResources
	failUpdate error
	memory     uint64 // what each container uses
	handlers   []cri.RuntimeHandler
	signals    cri.Signal // 1: it knows stop signals
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{
		boxes: map[string]*fakeBox{}, containers: map[string]*fakeContainer{}, programs: map[string]func(uint32) run{}, calls: map[string]int{},
		images: map[string]*cri.Image{"app:1": {ID: "sha256:app1"}}, remote: map[string]bool{"app:2": true},
	}
}

var errFakeDown = &cri.Error{Method: "any", Socket: "/run/fake.sock", Code: cri.ErrUnavailable, Err: net.ErrClosed}

func notFound(what string) error {
	return &cri.Error{Method: "any", Code: cri.ErrNotFound, Message: what + " not found"}
}

// enter locks the runtime for one call, or fails it.
func (f *fakeRuntime) enter(call string) (func(), error) {
	f.mu.Lock()
	f.calls[call]++
	if f.down != nil {
		f.mu.Unlock()
		return nil, f.down
	}
	f.tick()
	return f.mu.Unlock, nil
}

// linger lets a call that has done its work take time. It must be called without the lock.
func (f *fakeRuntime) linger(ctx context.Context, call string) error {
	f.mu.Lock()
	latency := f.latency
	f.mu.Unlock()
	if latency == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return &cri.Error{Method: call, Code: cri.ErrCanceled, Err: ctx.Err()}
	case <-time.After(latency()):
		return nil
	}
}

// tick lets containers end whose time has come.
func (f *fakeRuntime) tick() {
	now := time.Now()
	for _, c := range f.containers {
		if c.state == cri.ContainerRunning && !c.ends.IsZero() && !now.Before(c.ends) {
			c.state, c.finished, c.code, c.why = cri.ContainerExited, now.Add(c.ends.Sub(now)), c.does.code, c.does.why
		}
	}
}

func matches(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (f *fakeRuntime) CreateContainer(ctx context.Context, box string, config *cri.ContainerConfig, _ *cri.PodSandboxConfig) (id string, err error) {
	unlock, err := f.enter("CreateContainer")
	if err != nil {
		return "", err
	}
	defer func() {
		unlock()
		if err == nil {
			err = f.linger(ctx, "CreateContainer")
		}
	}()
	if f.failCreate != nil {
		return "", f.failCreate
	}
	if b := f.boxes[box]; b == nil || !b.ready {
		return "", notFound(box)
	}
	for _, c := range f.containers {
		if c.box == box && *c.config.Metadata == *config.Metadata {
			return "", &cri.Error{Method: "CreateContainer", Code: cri.ErrUnknown, Message: "name is reserved for " + c.id}
		}
	}
	f.n++
	c := &fakeContainer{id: fmt.Sprintf("ctr%d", f.n), box: box, config: config, made: time.Now().UnixNano()}
	if p := f.programs[config.Metadata.Name]; p != nil {
		c.does = p(config.Metadata.Attempt)
	}
	f.containers[c.id] = c
	return c.id, nil
}

func (f *fakeRuntime) StartContainer(ctx context.Context, id string) (err error) {
	unlock, err := f.enter("StartContainer")
	if err != nil {
		return err
	}
	defer func() {
		unlock()
		if err == nil {
			err = f.linger(ctx, "StartContainer")
		}
	}()
	c := f.containers[id]
	if c == nil {
		return notFound(id)
	}
	c.state, c.started = cri.ContainerRunning, time.Now()
	if c.does.lasts > 0 {
		c.ends = c.started.Add(c.does.lasts)
	}
	return nil
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	unlock, err := f.enter("StopContainer")
	if err != nil {
		return err
	}
	f.stops = append(f.stops, grace)
	c, stuck := f.containers[id], f.stuck
	unlock()
	if c == nil {
		return nil
	}
	code, wait := int32(143), c.does.dies
	if stuck != "" && c.config.Metadata.Name == stuck { // as in an uninterruptible sleep of the kernel
		<-ctx.Done()
		return &cri.Error{Method: "StopContainer", Code: cri.ErrCanceled, Err: ctx.Err()}
	}
	if wait > grace {
		code, wait = 137, grace
	}
	select {
	case <-ctx.Done():
		return &cri.Error{Method: "StopContainer", Code: cri.ErrCanceled, Err: ctx.Err()}
	case <-time.After(wait):
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.state == cri.ContainerRunning {
		c.state, c.finished, c.code, c.why = cri.ContainerExited, time.Now(), code, "Error"
	}
	return nil
}

func (f *fakeRuntime) RemoveContainer(_ context.Context, id string) error {
	unlock, err := f.enter("RemoveContainer")
	if err != nil {
		return err
	}
	defer unlock()
	delete(f.containers, id)
	return nil
}

func (f *fakeRuntime) ListContainers(_ context.Context, filter *cri.ContainerFilter) ([]cri.Container, error) {
	unlock, err := f.enter("ListContainers")
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []cri.Container
	for _, c := range f.containers {
		if filter == nil || matches(c.config.Labels, filter.LabelSelector) {
			out = append(out, cri.Container{ID: c.id, PodSandboxID: c.box, Metadata: c.config.Metadata, State: c.state, CreatedAt: c.made, Labels: c.config.Labels, ImageRef: c.config.Image.Image})
		}
	}
	return out, nil
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func (f *fakeRuntime) ContainerStatus(_ context.Context, id string, _ bool) (*cri.ContainerStatusResponse, error) {
	unlock, err := f.enter("ContainerStatus")
	if err != nil {
		return nil, err
	}
	defer unlock()
	c := f.containers[id]
	if c == nil {
		return nil, notFound(id)
	}
	return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{
		ID: id, Metadata: c.config.Metadata, State: c.state, CreatedAt: c.made, StartedAt: nano(c.started), FinishedAt: nano(c.finished),
		ExitCode: c.code, Reason: c.why, Image: &cri.ImageSpec{Image: c.config.Image.UserSpecifiedImage}, ImageRef: "ref@" + c.config.Image.Image,
		Annotations: c.config.Annotations, StopSignal: cmp.Or(f.signals*c.config.StopSignal, f.signals*cri.SignalOf("SIGTERM")),
	}}, nil
}

func (f *fakeRuntime) ExecSync(ctx context.Context, id string, cmd []string, _ time.Duration) (*cri.ExecSyncResponse, error) {
	unlock, err := f.enter("ExecSync")
	if err != nil {
		return nil, err
	}
	code, err := f.exec(id, cmd)
	takes := f.execTakes
	unlock()
	select {
	case <-ctx.Done():
		return nil, &cri.Error{Method: "ExecSync", Code: cri.ErrCanceled, Err: ctx.Err()}
	case <-time.After(takes):
	}
	return &cri.ExecSyncResponse{ExitCode: code}, err
}

func (f *fakeRuntime) Version(context.Context) (*cri.VersionResponse, error) {
	unlock, err := f.enter("Version")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return &cri.VersionResponse{RuntimeName: "fake", RuntimeVersion: "1.0"}, nil
}

func (f *fakeRuntime) Status(context.Context, bool) (*cri.StatusResponse, error) {
	unlock, err := f.enter("Status")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return &cri.StatusResponse{RuntimeHandlers: f.handlers, Status: &cri.RuntimeStatus{Conditions: []cri.RuntimeCondition{{Type: cri.RuntimeReady, Status: true}, {Type: cri.NetworkReady, Status: true}}}}, nil
}

func (f *fakeRuntime) RuntimeConfig(context.Context) (*cri.RuntimeConfigResponse, error) {
	return nil, &cri.Error{Method: "RuntimeConfig", Code: cri.ErrUnimplemented}
}

// setDown makes the runtime unreachable, or reachable again.
func (f *fakeRuntime) setDown(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
}

func (f *fakeRuntime) called(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// byName returns the containers of a name, oldest first.
func (f *fakeRuntime) byName(name string) []fakeContainer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tick()
	var out []fakeContainer
	for _, c := range f.containers {
		if c.config.Metadata.Name == name {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b fakeContainer) int { return cmp.Compare(a.made, b.made) })
	return out
}

func (f *fakeRuntime) ReopenContainerLog(_ context.Context, id string) error {
	unlock, err := f.enter("ReopenContainerLog")
	if err != nil {
		return err
	}
	defer unlock()
	c := f.containers[id]
	if c == nil {
		return notFound(id)
	}
	return os.WriteFile(filepath.Join(f.boxes[c.box].config.LogDirectory, c.config.LogPath), nil, 0o600)
}

// stopped returns the grace periods that were asked for.
func (f *fakeRuntime) stopped() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stops)
}
