package pods

import (
	"context"

	"github.com/skerry/skerry/firmware/cri"
)

func (f *fakeRuntime) UpdateContainerResources(_ context.Context, id string, linux *cri.LinuxContainerResources) error {
	unlock, err := f.enter("UpdateContainerResources")
	if err != nil {
		return err
	}
	defer unlock()
	if c := f.containers[id]; c == nil || c.state != cri.ContainerRunning {
		return notFound(id)
	}
	if f.failUpdate != nil {
		return f.failUpdate
	}
	f.updates = append(f.updates, linux)
	return nil
}

func (f *fakeRuntime) ContainerStats(_ context.Context, id string) (*cri.ContainerStats, error) {
	unlock, err := f.enter("ContainerStats")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f.containers[id] == nil {
		return nil, notFound(id)
	}
	used := f.memory
	return &cri.ContainerStats{Memory: &cri.MemoryUsage{WorkingSetBytes: &used}}, nil
}

// ListContainerStats tells of the running containers whose use a test has set.
func (f *fakeRuntime) ListContainerStats(_ context.Context, filter *cri.ContainerStatsFilter) ([]cri.ContainerStats, error) {
	unlock, err := f.enter("ListContainerStats")
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []cri.ContainerStats
	for _, c := range f.containers {
		memory, known := f.uses[c.config.Metadata.Name]
		layer := f.layer[c.config.Metadata.Name]
		if known && c.state == cri.ContainerRunning && matches(c.config.Labels, filter.LabelSelector) {
			out = append(out, cri.ContainerStats{Attributes: &cri.ContainerAttributes{ID: c.id, Labels: c.config.Labels},
				Memory: &cri.MemoryUsage{WorkingSetBytes: &memory}, WritableLayer: &cri.FilesystemUsage{UsedBytes: &layer}})
		}
	}
	return out, nil
}
