package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/agent"
)

// The second half of the scenario: what happens when relay and agent go away and come back.

// polls waits until the agent has read fresh values of the device, told by the device's own count of requests.
func (d *demo) polls(ctx context.Context) error {
	before, err := d.modbus.Requests(ctx)
	if err != nil {
		return err
	}
	return poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		now, err := d.modbus.Requests(ctx)
		return now >= before+4, fmt.Sprintf("%d requests at the device, then %d", before, now), err
	})
}

func (d *demo) relayStopped(ctx context.Context, _ sayFunc) (string, error) {
	st, err := d.stack.Status(ctx)
	if err != nil {
		return "", err
	}
	d.held = st.Store.Objects
	if d.before, err = d.containers(ctx); err != nil {
		return "", err
	}
	if len(d.before) == 0 {
		return "", errors.New("no container runs before the relay is stopped")
	}
	if err := d.stack.StopRelay(); err != nil {
		return "", err
	}
	err = poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		st, err := d.stack.Status(ctx)
		return !st.Link.Connected, "the agent still believes that it is connected", err
	})
	if err != nil {
		return "", err
	}
	if err := d.polls(ctx); err != nil {
		return "", err
	}
	return d.sameContainers(ctx)
}

func (d *demo) sameContainers(ctx context.Context) (string, error) {
	now, err := d.containers(ctx)
	if err != nil {
		return "", err
	}
	if !slices.Equal(now, d.before) {
		return "", fmt.Errorf("containers changed: before %v, now %v", d.before, now)
	}
	return fmt.Sprintf("container %.12s, attempt %d, unchanged", now[0].id, now[0].attempt), nil
}

func (d *demo) agentKilled(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.stack.KillAgent(); err != nil {
		return "", err
	}
	if err := d.stack.StartAgent(ctx); err != nil {
		return "", err
	}
	if err := d.polls(ctx); err != nil {
		return "", err
	}
	if err := d.edgePodReady(ctx); err != nil {
		return "", err
	}
	return d.sameContainers(ctx)
}

// edgePodReady waits until the agent itself says that its pod runs; Kubernetes cannot know while the relay is down.
func (d *demo) edgePodReady(ctx context.Context) error {
	return poll(ctx, 50*time.Millisecond, func() (bool, string, error) {
		st, err := d.stack.Status(ctx)
		if err != nil {
			return false, err.Error(), nil
		}
		ok := len(st.Pods) == 1 && st.Pods[0].Phase == "Running" && st.Pods[0].Ready == "1/1"
		return ok, fmt.Sprintf("pods at the edge: %+v, runtime: %s", st.Pods, st.Runtime), nil
	})
}

func (d *demo) offlineRestart(ctx context.Context, say sayFunc) (string, error) {
	if err := d.stack.StopAgent(); err != nil {
		return "", err
	}
	say("removing the pod's sandbox, as a reboot would")
	rt := d.stack.Runtime.Client()
	boxes, err := rt.ListPodSandbox(ctx, nil)
	if err != nil {
		return "", err
	}
	for _, b := range boxes {
		if err := errors.Join(rt.StopPodSandbox(ctx, b.ID), rt.RemovePodSandbox(ctx, b.ID)); err != nil {
			return "", err
		}
	}
	began := time.Now()
	if err := d.stack.StartAgent(ctx); err != nil {
		return "", err
	}
	if err := d.edgePodReady(ctx); err != nil {
		return "", err
	}
	took := time.Since(began)
	if err := d.polls(ctx); err != nil {
		return "", err
	}
	st, err := d.stack.Status(ctx)
	if err != nil {
		return "", err
	}
	if st.Link.Connected || st.Link.Sessions > 0 {
		return "", errors.New("the relay was to be down, but the agent had a session")
	}
	return fmt.Sprintf("pod ready %.1f s after the process began, %d objects from the store", took.Seconds(), st.Store.Objects), nil
}

func (d *demo) relayBack(ctx context.Context, say sayFunc) (string, error) {
	say("changing a configMap and a desired value in the cloud while the edge is cut off")
	if _, err := d.stack.Kube.Kubectl(ctx, "patch", "configmap", "greeting", "--type=merge", "-p", `{"data":{"text":"changed during the outage"}}`); err != nil {
		return "", err
	}
	if err := d.wantValue(ctx, "77"); err != nil {
		return "", err
	}
	const changed = 2
	if err := d.stack.StartRelay(ctx); err != nil {
		return "", err
	}
	var st agent.Status
	err := poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		var err error
		st, err = d.stack.Status(ctx)
		return st.Link.InSync && st.Link.ObjectsReceived >= changed, fmt.Sprintf("%+v", st.Link), err
	})
	if err != nil {
		return "", err
	}
	say("checking the edge: desired value, configMap in the volume")
	if err := d.desiredVerified(ctx); err != nil {
		return "", err
	}
	if err := d.configAtEdge(ctx, "changed during the outage"); err != nil {
		return "", err
	}
	say("checking the cloud: the container that was made during the outage")
	if err := d.cloudKnowsContainer(ctx); err != nil {
		return "", err
	}
	if st, err = d.stack.Status(ctx); err != nil {
		return "", err
	}
	// The node object may change by itself (taints, heartbeats of the node controller); nothing else may come again.
	if n := st.Link.ObjectsReceived; n > changed+2 {
		return "", fmt.Errorf("%d objects were sent, although %d changed and %d are held", n, changed, st.Store.Objects)
	}
	return fmt.Sprintf("%d of %d objects sent", st.Link.ObjectsReceived, st.Store.Objects), nil
}

func (d *demo) configAtEdge(ctx context.Context, want string) error {
	return poll(ctx, 200*time.Millisecond, func() (bool, string, error) {
		list, err := d.containers(ctx)
		if err != nil || len(list) != 1 {
			return false, fmt.Sprintf("%d containers", len(list)), err
		}
		r, err := d.stack.Runtime.Client().ExecSync(ctx, list[0].id, []string{"/sample", "cat", "/config/text"}, 5*time.Second)
		if err != nil {
			return false, err.Error(), nil
		}
		return string(r.Stdout) == want, string(r.Stdout), nil
	})
}

func (d *demo) cloudKnowsContainer(ctx context.Context) error {
	return poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		list, err := d.containers(ctx)
		if err != nil || len(list) != 1 {
			return false, fmt.Sprintf("%d containers", len(list)), err
		}
		pods, err := d.cluster.Core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: podLabel})
		if err != nil || len(pods.Items) != 1 {
			return false, "not one pod", err
		}
		p := pods.Items[0]
		if p.Status.Phase != corev1.PodRunning || len(p.Status.ContainerStatuses) != 1 {
			return false, describe(&p), nil
		}
		return p.Status.ContainerStatuses[0].ContainerID == "containerd://"+list[0].id, p.Status.ContainerStatuses[0].ContainerID, nil
	})
}
