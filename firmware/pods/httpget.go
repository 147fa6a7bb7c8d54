package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// What is read of an answer at most, in bytes.
const (
	maxProbeBody    = 10 << 10
	maxProbeHeaders = 64 << 10
)

const (
	maxRedirects   = 10
	maxWarningBody = 500 // bytes of an answer's body that an event shows
)

// userAgent names the caller as a kubelet of the Kubernetes whose behaviour the agent has would: servers tell probes from users by it. purpose
// is "probe" or "lifecycle".
func userAgent(purpose string) string { return "kube-" + purpose + "/1.37" }

// httpAnswer is what a server answered.
type httpAnswer struct {
	code int
	body string // its first maxProbeBody bytes
}

// http runs an HTTP probe: 200 to 399 is success. One that ends at a redirect to another host succeeds with a warning.
func (l *probeLoop) http(ctx context.Context, get *corev1.HTTPGetAction) error {
	req, err := l.request(ctx, get, "probe")
	if err != nil {
		return err
	}
	answer, err := l.ask(req)
	switch {
	case err != nil:
		return err
	case answer.code < http.StatusOK || answer.code >= http.StatusBadRequest:
		return fmt.Errorf("HTTP probe failed with statuscode: %d", answer.code)
	case answer.code >= http.StatusMultipleChoices:
		body := strings.ToValidUTF8(answer.body[:min(len(answer.body), maxWarningBody)], "")
		l.p.events.record(l.field, eventWarning, "ProbeWarning", fmt.Sprintf("%s probe warning: Probe terminated redirects, Response body: %s", l.kind, body))
	}
	return nil
}

// httpHook makes the request of a hook. As with a kubelet, any answer will do, and a server that answers an HTTPS request without TLS is asked again
// without it, and without the Authorization header.
func (a *caller) httpHook(ctx context.Context, get *corev1.HTTPGetAction) error {
	req, err := a.request(ctx, get, "lifecycle")
	if err != nil {
		return err
	}
	_, err = a.ask(req)
	if errors.Is(err, http.ErrSchemeMismatch) {
		req = req.Clone(ctx)
		req.URL.Scheme = "http"
		req.Header.Del("Authorization")
		if _, plain := a.ask(req); plain == nil {
			err = nil
			if a.warn != nil {
				a.warn("LifecycleHTTPFallback", fmt.Sprintf("request to HTTPS lifecycle hook %s got HTTP response, retry with HTTP succeeded", req.URL.Host))
			}
		}
	}
	if _, vague := errors.AsType[*inconclusive](err); vague {
		return nil // it has answered
	}
	return err
}

// request makes the request of a probe or a hook.
func (a *caller) request(ctx context.Context, get *corev1.HTTPGetAction, purpose string) (*http.Request, error) {
	addr, err := a.address(get.Host, get.Port)
	if err != nil {
		return nil, err
	}
	to, err := url.Parse(get.Path)
	if err != nil {
		to = &url.URL{Path: get.Path} // sent as it is
	}
	to.Scheme, to.Host, to.User = "http", addr, nil
	if get.Scheme == schemeHTTPS {
		to.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	req.Host = req.Header.Get("Host")
	if _, own := req.Header["User-Agent"]; !own {
		req.Header.Set("User-Agent", userAgent(purpose))
	}
	if accept, own := req.Header["Accept"]; !own {
		req.Header.Set("Accept", "*/*")
	} else if accept[0] == "" {
		req.Header.Del("Accept")
	}
	return req, nil
}

// ask makes a request over a connection of its own, by HTTP/1.1, past any proxy. Redirects to the same host are followed, whatever their scheme and port;
// any other is the answer.
func (a *caller) ask(req *http.Request) (httpAnswer, error) {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxProbeHeaders, DialTLSContext: a.dialUnproven}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: a.follow}
	resp, err := client.Do(req)
	if err != nil {
		return httpAnswer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	if err != nil {
		return httpAnswer{}, &inconclusive{state: "failure", err: err}
	}
	return httpAnswer{code: resp.StatusCode, body: string(body)}, nil
}

// follow decides about a redirect.
func (a *caller) follow(req *http.Request, via []*http.Request) error {
	host := req.URL.Hostname()
	if host != via[0].URL.Hostname() || req.URL.Scheme == "https" && !a.near(host) {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}
