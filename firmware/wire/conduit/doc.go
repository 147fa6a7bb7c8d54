// Package conduit has what both halves of the kubelet API need to hand a request, and the connection that it may become, through to
// where it is served: from the API server through the relay (relay/kubelet) and the agent (firmware/kubeletapi) to the runtime.
//
//	ctx, cancel := context.WithCancel(r.Context())
//	defer cancel()
//	watch := conduit.NewWatch(4*time.Hour, cancel)
//	defer watch.Stop()
//	p := &httputil.ReverseProxy{…, BufferPool: &buffers, ErrorLog: log.New(conduit.DebugLog{Log: l, Message: "kubelet API"}, "", 0)}
//	p.ServeHTTP(&conduit.Writer{ResponseWriter: w, Ctx: ctx, Watch: watch}, r.WithContext(ctx))
//
// A session of exec may be silent for hours and lives on; one whose peer has gone without a word must not stay for ever. So a Watch counts
// bytes that move, in either direction, and not the connection's age.
//
// # Concurrency
//
// A Watch, a Conn's Read, Write and Close, Buffers and a DebugLog are safe for concurrent use. A Writer is one request's, as the
// http.ResponseWriter that it wraps.
//
// # Testing
//
// Unit tests run in bubbles of testing/synctest, over pipes. Both servers have tests of their idle sessions, over real connections.
package conduit
