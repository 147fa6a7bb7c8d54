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
