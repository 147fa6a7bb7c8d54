package kubelet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// problem is why a request cannot be handed to a node.
type problem struct {
	status int
	text   string
}

// podPaths are the paths that name a pod: PREFIX/NAMESPACE/POD/…
var podPaths = map[string]bool{"containerLogs": true, "exec": true, "attach": true, "portForward": true}

// ofPod reports whether a path is one that the API server itself asks for, for a pod.
func ofPod(at string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(at, "/"), "/")
	return podPaths[first]
}

// streams reports whether what a path asks for may go on for hours.
func streams(at string) bool {
	if rest, ok := strings.CutPrefix(at, explicit); ok {
		_, at, _ = strings.Cut(rest, "/")
	}
	return ofPod(at)
}

// explicit is the prefix by which people name a node: /nodes/NAME/stats/summary.
const explicit = "/nodes/"

// route returns the node that a request is for, and the path that its agent is to see.
func (s *Server) route(r *http.Request) (node, at string, no *problem) {
	asked := proxied(r)
	if node, at, no = s.target(r, asked); no == nil && asked != "" && asked != node {
		return "", at, &problem{http.StatusForbidden, fmt.Sprintf(
			"%s is on node %s, and the API server was asked for node %s: ask it for nodes/%s/proxy", r.URL.Path, node, asked, node)}
	}
	return node, at, no
}

// target finds the node by what the request names: itself, by its connection, by the API server (asked), or by its pod.
func (s *Server) target(r *http.Request, asked string) (node, at string, no *problem) {
	at = r.URL.Path
	if !strings.HasPrefix(at, "/") || path.Clean(at) != strings.TrimSuffix(at, "/") && at != "/" {
		return "", at, &problem{http.StatusBadRequest, fmt.Sprintf("path %q is not clean", at)}
	}
	if rest, ok := strings.CutPrefix(at, explicit); ok {
		name, rest, _ := strings.Cut(rest, "/")
		return s.known(name, "/"+rest)
	}
	if s.o.Ports != nil {
		if port := portOf(r.Context()); port != 0 {
			if node, ok := s.o.Ports.node(port); ok {
				return node, at, nil
			}
		}
	}
	if name, ok := s.named(r); ok {
		return s.known(name, at)
	}
	parts := strings.SplitN(strings.TrimPrefix(at, "/"), "/", 4)
	ofPod := len(parts) >= 3 && podPaths[parts[0]]
	switch {
	case !ofPod && asked != "":
		return s.known(asked, at)
	case !ofPod:
		return "", at, &problem{http.StatusNotFound, fmt.Sprintf(
			"%s is about a node as a whole, and this address is that of all gateways: give nodes names (kubelet.domain) or ports (kubelet.nodePorts), or ask for /nodes/NAME%s, or ask the API server for nodes/NAME/proxy%s (docs/kubelet.md, node-level paths)", at, at, at)}
	}
	node, ok := s.o.Pods.NodeOfPod(parts[1], parts[2])
	switch {
	case !ok:
		return "", at, &problem{http.StatusNotFound, fmt.Sprintf("pod %s/%s does not exist, as far as relay %s has heard", parts[1], parts[2], s.o.Name)}
	case node == "":
		return "", at, &problem{http.StatusConflict, fmt.Sprintf("pod %s/%s is bound to no node yet", parts[1], parts[2])}
	}
	return node, at, nil
}

func (s *Server) known(name, at string) (string, string, *problem) {
	if !s.o.Pods.HasNode(name) {
		return "", at, &problem{http.StatusNotFound, fmt.Sprintf("there is no node %q, as far as relay %s has heard", name, s.o.Name)}
	}
	return name, at, nil
}

// named returns the node that the connection was made for by name.
func (s *Server) named(r *http.Request) (string, bool) {
	if s.o.Domain == "" {
		return "", false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	names := []string{host}
	if r.TLS != nil {
		names = append(names, r.TLS.ServerName)
	}
	for _, n := range names {
		if node, ok := strings.CutSuffix(strings.ToLower(n), "."+s.o.Domain); ok && node != "" {
			return node, true
		}
	}
	return "", false
}

const (
	forwardedURI = "X-Forwarded-Uri"
	proxyPrefix  = "/api/v1/nodes/"
)

// proxied returns the node that the API server was asked for, if the request has come through its node proxy. It writes that header over whatever
// the client sent (k8s.io/apimachinery pkg/util/proxy, Transport), except where a connection is upgraded: there the client's own gets
// through, so there it counts for nothing. Whoever comes here directly may write what they like: whether they may reach that node is reviewed.
func proxied(r *http.Request) string {
	for _, c := range r.Header["Connection"] {
		if strings.Contains(strings.ToLower(c), "upgrade") { // what the API server takes for an upgrade
			return ""
		}
	}
	uri := r.Header[forwardedURI]
	if len(uri) != 1 {
		return ""
	}
	rest, ok := strings.CutPrefix(uri[0], proxyPrefix)
	id, rest, _ := strings.Cut(rest, "/")
	if !ok || rest != "proxy" && !strings.HasPrefix(rest, "proxy/") {
		return ""
	}
	for _, scheme := range []string{"https:", "http:"} { // SCHEME:NAME:PORT; a node's name has no colon
		id = strings.TrimPrefix(id, scheme)
	}
	name, _, _ := strings.Cut(id, ":")
	return name
}

type portKey struct{}

// withPort notes at which port a connection came in.
func withPort(ctx context.Context, c net.Conn) context.Context {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return context.WithValue(ctx, portKey{}, a.Port)
	}
	return ctx
}

func portOf(ctx context.Context) int {
	port, _ := ctx.Value(portKey{}).(int)
	return port
}

// agentURL is the address that a request has on its way to a node's agent. The host is for the transport, which dials the node by it.
func agentURL(u *url.URL, scheme, host string) *url.URL {
	out := *u
	out.Scheme, out.Host, out.User, out.Fragment = scheme, host, nil, ""
	return &out
}
