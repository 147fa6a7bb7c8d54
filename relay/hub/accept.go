package hub

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/hub/socket"
	"github.com/skerry/skerry/relay/session"
)

// accept turns a request into a session. It returns at once: net/http then frees what it held for the request.
func (h *Hub) accept(w http.ResponseWriter, r *http.Request) {
	node, status, why := h.authenticate(r)
	if status != 0 {
		h.refuse(why, node, r.RemoteAddr, "%s", explain(why, node))
		http.Error(w, explain(why, node), status)
		return
	}
	if !slices.Contains(offered(r), wire.Subprotocol) {
		h.refuse("subprotocol", node, r.RemoteAddr, "it offers %q", offered(r))
		http.Error(w, "this relay speaks "+wire.Subprotocol+" over WebSocket", http.StatusBadRequest)
		return
	}
	if no := h.visits.allow(node, time.Now()); no.reason != "" {
		h.refuse(no.reason, node, r.RemoteAddr, "%s; it may come back in %v", no.detail, no.retryAfter.Round(time.Second))
		w.Header().Set("Retry-After", seconds(no.retryAfter))
		http.Error(w, "node "+node+": "+no.detail, http.StatusTooManyRequests)
		return
	}
	if retry, ok := h.admit(node); !ok {
		h.meter.refused("admission")
		w.Header().Set("Retry-After", seconds(retry))
		http.Error(w, "the relay takes no more sessions now", http.StatusServiceUnavailable)
		return
	}
	w.Header()["Date"] = nil // wire.HeaderTime says it
	limit := h.opts.Limits.MaxFrame
	if limit <= 0 {
		limit = session.DefaultMaxFrame
	}
	ws, err := socket.Accept(w, r, wire.Subprotocol, limit)
	if err != nil {
		h.refuse("websocket", node, r.RemoteAddr, "%v", err)
		return
	}
	ws.Release()
	a := newAgent(h, ws, node, r.RemoteAddr, factsOf(r.TLS.PeerCertificates[0]))
	if err := h.register(a); err != nil {
		_ = ws.CloseNow()
		return
	}
	a.begin()
	a.recheck(time.Now()) // a revocation since authenticate found no session to end
}

// authenticate takes the node's name from the client certificate, and from nothing else.
func (h *Hub) authenticate(r *http.Request) (node string, status int, why string) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", http.StatusUnauthorized, "no-certificate"
	}
	node, err := join.NodeOf(r.TLS.PeerCertificates[0])
	if err != nil {
		return "", http.StatusForbidden, "not-a-node"
	}
	// A connection may be older than the revocation.
	if why, _ := h.unfit(node, factsOf(r.TLS.PeerCertificates[0]), time.Now()); why != "" {
		return node, http.StatusForbidden, why
	}
	return node, 0, ""
}

func explain(why, node string) string {
	switch why {
	case "no-certificate":
		return "no client certificate was presented"
	case "not-a-node":
		return "the client certificate is not a gateway's"
	}
	return "node " + node + " is revoked, or its certificate is not good any more (" + why + ")"
}

// seconds is d for a Retry-After header, rounded up: who comes when it was told to gets in.
func seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}

func (h *Hub) admit(node string) (time.Duration, bool) {
	if h.isClosing() {
		return time.Second, false
	}
	if h.starts.waiting() >= startsWaiting {
		return startsRetry, false
	}
	if h.opts.Admit == nil {
		return 0, true
	}
	return h.opts.Admit(node)
}

func offered(r *http.Request) []string {
	var out []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}
