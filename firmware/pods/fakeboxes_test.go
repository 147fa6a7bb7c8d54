package pods

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

type fakeBox struct {
	handler string
	id      string
	config  *cri.PodSandboxConfig
	ready   bool
	made    int64
}

func (f *fakeRuntime) RunPodSandbox(ctx context.Context, config *cri.PodSandboxConfig, handler string) (id string, err error) {
	unlock, err := f.enter("RunPodSandbox")
	if err != nil {
		return "", err
	}
	defer func() {
		unlock()
		if err == nil {
			err = f.linger(ctx, "RunPodSandbox")
		}
	}()
	f.n++
	b := &fakeBox{id: fmt.Sprintf("box%d", f.n), config: config, handler: handler, ready: true, made: time.Now().UnixNano()}
	f.boxes[b.id] = b
	return b.id, nil
}

func (f *fakeRuntime) StopPodSandbox(_ context.Context, id string) error {
	unlock, err := f.enter("StopPodSandbox")
	if err != nil {
		return err
	}
	defer unlock()
	if b := f.boxes[id]; b != nil {
		b.ready = false
		for _, c := range f.containers {
			if c.box == id && c.state == cri.ContainerRunning {
				c.state, c.finished, c.code, c.why = cri.ContainerExited, time.Now(), 137, "Error"
			}
		}
	}
	return nil
}

func (f *fakeRuntime) RemovePodSandbox(ctx context.Context, id string) (err error) {
	unlock, err := f.enter("RemovePodSandbox")
	if err != nil {
		return err
	}
	defer func() {
		unlock()
		if err == nil {
			err = f.linger(ctx, "RemovePodSandbox")
		}
	}()
	delete(f.boxes, id)
	maps.DeleteFunc(f.containers, func(_ string, c *fakeContainer) bool { return c.box == id })
	return nil
}

func (f *fakeRuntime) PodSandboxStatus(_ context.Context, id string, _ bool) (*cri.PodSandboxStatusResponse, error) {
	unlock, err := f.enter("PodSandboxStatus")
	if err != nil {
		return nil, err
	}
	defer unlock()
	b := f.boxes[id]
	if b == nil {
		return nil, notFound(id)
	}
	s := &cri.PodSandboxStatus{Network: &cri.PodSandboxNetworkStatus{IP: "10.0.0.5"}}
	if l := b.config.Linux; l != nil { // as containerd: what it was made with
		s.Linux = &cri.LinuxPodSandboxStatus{Namespaces: &cri.Namespace{Options: l.SecurityContext.NamespaceOptions}}
	}
	return &cri.PodSandboxStatusResponse{Status: s}, nil
}

func (f *fakeRuntime) ListPodSandbox(_ context.Context, filter *cri.PodSandboxFilter) ([]cri.PodSandbox, error) {
	unlock, err := f.enter("ListPodSandbox")
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []cri.PodSandbox
	for _, b := range f.boxes {
		if matches(b.config.Labels, filter.LabelSelector) {
			state := cri.SandboxNotReady
			if b.ready {
				state = cri.SandboxReady
			}
			out = append(out, cri.PodSandbox{ID: b.id, Metadata: b.config.Metadata, State: state, CreatedAt: b.made, Labels: b.config.Labels, Annotations: b.config.Annotations})
		}
	}
	return out, nil
}

func (f *fakeRuntime) boxCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.boxes)
}

func (f *fakeRuntime) hasBox(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boxes[id] != nil
}
