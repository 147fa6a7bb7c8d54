package cri

import (
	"context"
	"time"
)

// Version returns the runtime's name and version: the cheapest proof that it answers.
func (c *Client) Version(ctx context.Context) (*VersionResponse, error) {
	resp := new(VersionResponse)
	return result(resp, c.runtime(ctx, "Version", &VersionRequest{Version: "v1"}, resp))
}

// Status returns the runtime's conditions and features.
func (c *Client) Status(ctx context.Context, verbose bool) (*StatusResponse, error) {
	resp := new(StatusResponse)
	return result(resp, c.runtime(ctx, "Status", &StatusRequest{Verbose: verbose}, resp))
}

// RuntimeConfig returns the runtime's cgroup driver. Runtimes older than containerd 2.0 answer ErrUnimplemented.
func (c *Client) RuntimeConfig(ctx context.Context) (*RuntimeConfigResponse, error) {
	resp := new(RuntimeConfigResponse)
	return result(resp, c.runtime(ctx, "RuntimeConfig", &RuntimeConfigRequest{}, resp))
}

// RunPodSandbox creates and starts a sandbox and returns its id. handler may be empty.
func (c *Client) RunPodSandbox(ctx context.Context, config *PodSandboxConfig, handler string) (string, error) {
	var resp RunPodSandboxResponse
	// Twice the time: the runtime may have to pull the pause image first (as in the kubelet).
	err := c.unary(ctx, runtimeService, "RunPodSandbox", c.timeout, &RunPodSandboxRequest{config, handler}, &resp)
	return resp.PodSandboxID, err
}

// StopPodSandbox stops a sandbox's containers and frees its network. Idempotent; a sandbox that does not
// exist is no error.
func (c *Client) StopPodSandbox(ctx context.Context, id string) error {
	return c.runtime(ctx, "StopPodSandbox", &StopPodSandboxRequest{id}, &StopPodSandboxResponse{})
}

// RemovePodSandbox removes a sandbox and its containers by force. Idempotent.
func (c *Client) RemovePodSandbox(ctx context.Context, id string) error {
	return c.runtime(ctx, "RemovePodSandbox", &RemovePodSandboxRequest{id}, &RemovePodSandboxResponse{})
}

// PodSandboxStatus returns a sandbox's state, ErrNotFound if there is none.
func (c *Client) PodSandboxStatus(ctx context.Context, id string, verbose bool) (*PodSandboxStatusResponse, error) {
	resp := new(PodSandboxStatusResponse)
	return result(resp, c.runtime(ctx, "PodSandboxStatus", &PodSandboxStatusRequest{id, verbose}, resp))
}

// ListPodSandbox returns the sandboxes that filter selects, all if it is nil.
func (c *Client) ListPodSandbox(ctx context.Context, filter *PodSandboxFilter) ([]PodSandbox, error) {
	var resp ListPodSandboxResponse
	err := c.runtime(ctx, "ListPodSandbox", &ListPodSandboxRequest{filter}, &resp)
	return resp.Items, err
}

// CreateContainer creates a container in a sandbox and returns its id.
func (c *Client) CreateContainer(ctx context.Context, sandboxID string, config *ContainerConfig, sandbox *PodSandboxConfig) (string, error) {
	var resp CreateContainerResponse
	err := c.runtime(ctx, "CreateContainer", &CreateContainerRequest{sandboxID, config, sandbox}, &resp)
	return resp.ContainerID, err
}

// StartContainer starts a created container.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	return c.runtime(ctx, "StartContainer", &StartContainerRequest{id}, &StartContainerResponse{})
}

// StopContainer sends the stop signal and, after grace (in whole seconds, rounded up), SIGKILL; it returns
// when the container has stopped. Idempotent; a container that does not exist is no error.
func (c *Client) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	req := &StopContainerRequest{ContainerID: id, Timeout: wholeSeconds(grace)}
	return c.unary(ctx, runtimeService, "StopContainer", grace, req, &StopContainerResponse{})
}

// RemoveContainer removes a container by force. Idempotent.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	return c.runtime(ctx, "RemoveContainer", &RemoveContainerRequest{id}, &RemoveContainerResponse{})
}

// ContainerStatus returns a container's state, ErrNotFound if there is none.
func (c *Client) ContainerStatus(ctx context.Context, id string, verbose bool) (*ContainerStatusResponse, error) {
	resp := new(ContainerStatusResponse)
	return result(resp, c.runtime(ctx, "ContainerStatus", &ContainerStatusRequest{id, verbose}, resp))
}

// ListContainers returns the containers that filter selects, all if it is nil.
func (c *Client) ListContainers(ctx context.Context, filter *ContainerFilter) ([]Container, error) {
	var resp ListContainersResponse
	err := c.runtime(ctx, "ListContainers", &ListContainersRequest{filter}, &resp)
	return resp.Containers, err
}

// ReopenContainerLog makes the runtime reopen a running container's log file, after it was renamed.
func (c *Client) ReopenContainerLog(ctx context.Context, id string) error {
	return c.runtime(ctx, "ReopenContainerLog", &ReopenContainerLogRequest{id}, &ReopenContainerLogResponse{})
}

// UpdateContainerResources changes a container's cgroup settings; zero fields stay as they are.
func (c *Client) UpdateContainerResources(ctx context.Context, id string, linux *LinuxContainerResources) error {
	req := &UpdateContainerResourcesRequest{ContainerID: id, Linux: linux}
	return c.runtime(ctx, "UpdateContainerResources", req, &UpdateContainerResourcesResponse{})
}

// ExecSync runs a command in a container until it ends, or until timeout (in whole seconds, rounded up; 0
// for none) has passed: the runtime then answers ErrDeadlineExceeded or ErrUnknown. A command that fails is no
// error: see ExitCode. Its output may be large: Options.MaxResponse limits both streams together.
func (c *Client) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (*ExecSyncResponse, error) {
	resp := new(ExecSyncResponse)
	req := &ExecSyncRequest{ContainerID: id, Cmd: cmd, Timeout: wholeSeconds(timeout)}
	if timeout == 0 {
		return result(resp, c.unbounded(ctx, runtimeService, "ExecSync", req, resp))
	}
	return result(resp, c.unary(ctx, runtimeService, "ExecSync", timeout, req, resp))
}

// Exec prepares a streaming session with a command and returns its URL.
func (c *Client) Exec(ctx context.Context, req *ExecRequest) (url string, err error) {
	var resp ExecResponse
	err = c.runtime(ctx, "Exec", req, &resp)
	return resp.URL, err
}

// Attach prepares a streaming session with a container's first process and returns its URL.
func (c *Client) Attach(ctx context.Context, req *AttachRequest) (url string, err error) {
	var resp AttachResponse
	err = c.runtime(ctx, "Attach", req, &resp)
	return resp.URL, err
}

// PortForward prepares a streaming session with ports of a sandbox and returns its URL.
func (c *Client) PortForward(ctx context.Context, req *PortForwardRequest) (url string, err error) {
	var resp PortForwardResponse
	err = c.runtime(ctx, "PortForward", req, &resp)
	return resp.URL, err
}

// ContainerStats returns what a container uses.
func (c *Client) ContainerStats(ctx context.Context, id string) (*ContainerStats, error) {
	var resp ContainerStatsResponse
	err := c.runtime(ctx, "ContainerStats", &ContainerStatsRequest{id}, &resp)
	return resp.Stats, err
}

// ListContainerStats returns what the running containers that filter selects use, all if it is nil.
func (c *Client) ListContainerStats(ctx context.Context, filter *ContainerStatsFilter) ([]ContainerStats, error) {
	var resp ListContainerStatsResponse
	err := c.runtime(ctx, "ListContainerStats", &ListContainerStatsRequest{filter}, &resp)
	return resp.Stats, err
}

// GetContainerEvents calls handle for each event until ctx ends, the runtime ends the stream (nil) or
// handle returns an error, which is the cause of the error returned. Runtimes older than containerd 1.7
// answer ErrUnimplemented: poll them. Events of the time without a stream are lost: list after connecting.
func (c *Client) GetContainerEvents(ctx context.Context, handle func(*ContainerEventResponse) error) error {
	buf := c.buffer()
	defer c.release(buf)
	return c.stream(ctx, runtimeService, "GetContainerEvents", &GetEventsRequest{}, buf, func(data []byte) error {
		event := new(ContainerEventResponse)
		if err := Unmarshal(data, event); err != nil {
			return err
		}
		return handle(event)
	}, func() error { return nil })
}

func (c *Client) runtime(ctx context.Context, method string, req, resp Message) error {
	return c.unary(ctx, runtimeService, method, 0, req, resp)
}

func result[T any](resp *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func wholeSeconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64((d-1)/time.Second) + 1
}
