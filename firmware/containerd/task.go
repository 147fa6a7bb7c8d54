package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry/skerry/firmware/cri"
)

const (
	tasks   = "/containerd.services.tasks.v1.Tasks/"
	sigkill = 9
)

const containers = "/containerd.services.containers.v1.Containers/"

// labelKind is on the containers of containerd's CRI service, and not on those of other tools.
const labelKind = "io.cri-containerd.kind"

// Foreign reports whether containerd has a container that is not of its CRI service: nerdctl's and ctr's may be in the same namespace.
func (c *Client) Foreign(ctx context.Context, container string) (bool, error) {
	resp, err := c.call(ctx, containers+"Get", message{}.text(1, container))
	if errors.Is(err, cri.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask containerd whose container %s is: %w", container, err)
	}
	foreign := true
	err = visit(resp, func(num int, _ uint64, record []byte) error {
		if num != 1 {
			return nil
		}
		return visit(record, func(num int, _ uint64, label []byte) error {
			if num != 2 {
				return nil
			}
			return visit(label, func(num int, _ uint64, key []byte) error {
				foreign = foreign && !(num == 1 && string(key) == labelKind)
				return nil
			})
		})
	})
	if err != nil {
		return false, fmt.Errorf("read what containerd says of container %s: %w", container, err)
	}
	return foreign, nil
}

// EndTask kills what runs of a container's task, and deletes the task. It is for a container that CRI takes for ended and cannot remove, because its task is
// there still. A task that is not there is no error; one whose processes have not ended yet is one, and may be tried again.
func (c *Client) EndTask(ctx context.Context, container string) error {
	_, err := c.call(ctx, tasks+"Kill", message{}.text(1, container).number(3, sigkill).number(4, 1)) // 4: all of its processes
	if err != nil && !errors.Is(err, cri.ErrNotFound) {
		return fmt.Errorf("kill the task of container %s in containerd: %w", container, err)
	}
	if _, err = c.call(ctx, tasks+"Delete", message{}.text(1, container)); err != nil && !errors.Is(err, cri.ErrNotFound) {
		return fmt.Errorf("delete the task of container %s in containerd: %w", container, err)
	}
	return nil
}
