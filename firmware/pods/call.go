package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// caller carries out what probes and hooks ask of one running container.
type caller struct {
	rt     ContainerLister
	spec   *corev1.Container
	id, ip string                       // of the container, and of its pod
	warn   func(reason, message string) // tells of what a hook did otherwise than asked; nil: nobody listens
}

// inconclusive is an error of a probe that says nothing about the container: its result counts neither way.
type inconclusive struct {
	state string // as a kubelet's events name it
	err   error
}

func (e *inconclusive) Error() string { return e.err.Error() }
func (e *inconclusive) Unwrap() error { return e.err }

// hook runs a lifecycle hook until it is done or ctx ends.
func (a *caller) hook(ctx context.Context, do *corev1.LifecycleHandler) error {
	switch {
	case do.Exec != nil:
		return a.exec(ctx, do.Exec, 0)
	case do.HTTPGet != nil:
		return a.httpHook(ctx, do.HTTPGet)
	case do.Sleep != nil:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(do.Sleep.Seconds) * time.Second):
		}
	}
	return nil
}

// exec runs a command; timeout 0 is none but that of ctx.
func (a *caller) exec(ctx context.Context, do *corev1.ExecAction, timeout time.Duration) error {
	out, err := a.rt.ExecSync(ctx, a.id, do.Command, timeout)
	if timeout > 0 && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("command timed out: %q timed out after %v", strings.Join(do.Command, " "), timeout)
	} else if err != nil {
		return err
	}
	if out.ExitCode != 0 {
		text := string(out.Stdout) + string(out.Stderr)
		if len(text) > 500 {
			text = text[:500]
		}
		return fmt.Errorf("command exited with code %d: %s", out.ExitCode, text)
	}
	return nil
}

// address resolves a port, which may be a name, at a host, which is the pod unless given.
func (a *caller) address(host string, port corev1.IntOrString) (string, error) {
	if host == "" {
		host = a.ip
	}
	n := port.Int
	if port.IsString {
		n = 0
		for _, p := range a.spec.Ports {
			if p.Name == port.Str {
				n = int64(p.ContainerPort)
			}
		}
		if v, err := strconv.ParseInt(port.Str, 10, 32); err == nil {
			n = v
		}
	}
	if n < 1 || n > 65535 {
		return "", &inconclusive{state: "unknown", err: fmt.Errorf("the container has no port %q", port.String())}
	}
	return net.JoinHostPort(host, strconv.FormatInt(n, 10)), nil
}

func (a *caller) tcp(ctx context.Context, do *corev1.TCPSocketAction) error {
	addr, err := a.address(do.Host, do.Port)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
