package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// maxProbeBody is what a probe or hook reads of an answer at most, in bytes, of its headers as of its body.
const maxProbeBody = 10 << 10

const maxRedirects = 10

// caller carries out what probes and hooks ask of one running container.
type caller struct {
	rt     ContainerLister
	spec   *corev1.Container
	id, ip string // of the container, and of its pod
}

// hook runs a lifecycle hook until it is done or ctx ends.
func (a *caller) hook(ctx context.Context, do *corev1.LifecycleHandler) error {
	switch {
	case do.Exec != nil:
		return a.exec(ctx, do.Exec, 0)
	case do.HTTPGet != nil:
		return a.httpGet(ctx, do.HTTPGet)
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
		return "", fmt.Errorf("the container has no port %q", port.String())
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

func (a *caller) httpGet(ctx context.Context, get *corev1.HTTPGetAction) error {
	addr, err := a.address(get.Host, get.Port)
	if err != nil {
		return err
	}
	path, err := url.ParseRequestURI("/" + trimSlash(get.Path))
	if err != nil {
		return fmt.Errorf("path %q: %w", get.Path, err)
	}
	path.Scheme, path.Host = "http", addr
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, path.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/skerry")
	req.Header.Set("Accept", "*/*")
	for _, h := range get.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		} else {
			req.Header.Set(h.Name, h.Value)
		}
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxProbeBody}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: follow}
	resp, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBody))
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

// follow is what the kubelet does with redirects: those to the same host are followed, ten at most; any other is a success by itself.
func follow(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() || req.URL.Scheme != "http" {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

func trimSlash(s string) string {
	if len(s) > 0 && s[0] == '/' {
		return s[1:]
	}
	return s
}
