package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// lines writes a stream's lines. An error of send means that the client does not take them: the stream is over.
type lines struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

// send writes some lines and hands them out.
func (l *lines) send(docs ...any) error {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	if err := l.rc.SetWriteDeadline(time.Now().Add(lineTime)); err != nil {
		return fmt.Errorf("set the deadline of a line: %w", err)
	}
	for _, d := range docs {
		b, err := json.Marshal(d)
		if err != nil {
			return fmt.Errorf("encode a line: %w", err)
		}
		if _, err := l.w.Write(append(b, '\n')); err != nil {
			return err
		}
	}
	return l.rc.Flush()
}

// stream bounds a request that is answered line by line. An error of do is the answer if there has been no line.
func (s *Server) stream(limit time.Duration, do func(ctx context.Context, r *http.Request, out *lines) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !take(s.streams) {
			fail(w, errTooMany)
			return
		}
		defer give(s.streams)
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out := &lines{w: w, rc: http.NewResponseController(w)}
		if err := do(ctx, r, out); err != nil && !out.begun {
			fail(w, err)
		}
	}
}

// watch sends what is known, and then every change.
func (s *Server) watch(ctx context.Context, r *http.Request, out *lines) error {
	q := r.URL.Query()
	only, properties := q["device"], q["property"]
	if err := s.known(only, properties); err != nil {
		return err
	}
	wanted := func(namespace, name, property string) bool {
		return (len(only) == 0 || slices.Contains(only, namespace+"/"+name)) && (len(properties) == 0 || slices.Contains(properties, property))
	}
	changes := newFeed[Change]()
	stop := s.opt.Devices.Watch(func(namespace, name, property string, v device.Value) {
		if wanted(namespace, name, property) {
			changes.push(Change{Namespace: namespace, Device: name, Property: valueOf(property, v), Source: v.Source})
		}
	})
	defer stop()
	units := map[[3]string]string{}
	var now []any
	for _, d := range s.opt.Devices.Status() {
		for _, p := range d.Properties {
			units[[3]string{d.Namespace, d.Name, p.Name}] = p.Unit
			if wanted(d.Namespace, d.Name, p.Name) {
				now = append(now, Change{Namespace: d.Namespace, Device: d.Name, Property: propertyOf(p), Initial: true})
			}
		}
	}
	if err := out.send(now...); err != nil {
		return err
	}
	return s.follow(ctx, only, changes, units, out)
}

// known refuses to watch what there is not.
func (s *Server) known(only, properties []string) error {
	for _, d := range only {
		namespace, name, ok := strings.Cut(d, "/")
		if !ok {
			return &Error{Code: CodeInvalid, Text: fmt.Sprintf("device %q: NAMESPACE/NAME is needed", d)}
		}
		found, err := s.find(namespace, name)
		if err == nil && len(only) == 1 {
			err = known(found, properties)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow sends changes until ctx ends or nothing is left to watch.
func (s *Server) follow(ctx context.Context, only []string, changes *feed[Change], units map[[3]string]string, out *lines) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return out.send(Change{End: fmt.Sprintf("a watch lasts at most %v, or until the agent stops: begin it anew", watchTime)})
		case <-look.C:
			if s.gone(only) {
				return out.send(Change{End: "this gateway does not have " + few(only) + " any more"})
			}
			continue
		case <-changes.wake:
		}
		got, missed := changes.take()
		batch := make([]any, 0, len(got)+1)
		if missed > 0 {
			batch = append(batch, Change{Missed: missed})
		}
		for _, c := range got {
			c.Unit = units[[3]string{c.Namespace, c.Device, c.Name}]
			batch = append(batch, c)
		}
		if err := out.send(batch...); err != nil {
			return err
		}
	}
}

// gone tells that none of the devices that somebody watches is there any more. A watch of all devices goes on without any.
func (s *Server) gone(only []string) bool {
	return len(only) > 0 && !slices.ContainsFunc(only, func(d string) bool {
		namespace, name, _ := strings.Cut(d, "/")
		return s.opt.Devices.Has(namespace, name)
	})
}

// browse walks breadth first, so that a limit cuts off what is deepest.
func (s *Server) browse(ctx context.Context, r *http.Request, out *lines) error {
	var req BrowseRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Depth == 0 {
		req.Depth = 1
	}
	if req.Limit == 0 {
		req.Limit = defaultEntries
	}
	if req.Depth < 1 || req.Depth > maxDepth || req.Limit < 1 || req.Limit > maxEntries {
		return &Error{Code: CodeInvalid, Text: fmt.Sprintf("depth %d, limit %d: allowed are a depth of 1 to %d and a limit of 1 to %d", req.Depth, req.Limit, maxDepth, maxEntries)}
	}
	d, err := s.device(r)
	if err != nil {
		return err
	}
	w := walk{server: s, namespace: d.Namespace, name: d.Name, left: req.Limit, seen: map[string]bool{req.Node: true}, out: out}
	level := []folder{{node: req.Node}}
	for depth := 0; depth < req.Depth && len(level) > 0; depth++ {
		w.next = nil
		for _, f := range level {
			if w.left <= 0 {
				return out.send(Entry{End: fmt.Sprintf("the limit of %d entries is reached; there is more", req.Limit)})
			}
			if err := w.open(ctx, f, depth == 0); err != nil || w.cut {
				return err
			}
		}
		level = w.next
	}
	return nil
}

// folder is a node of an address space that may have others below it.
type folder struct {
	node string
	path []string
}

// walk is one walk through a device's address space.
type walk struct {
	server          *Server
	namespace, name string
	left            int             // entries that may still be listed
	seen            map[string]bool // address spaces have loops
	next            []folder        // of the level below
	cut             bool            // time is up, which has been said
	out             *lines
}

// open lists what a folder holds. That the first one cannot be is an error, of others it is told and the walk goes on.
func (w *walk) open(ctx context.Context, f folder, first bool) error {
	got, err := w.server.opt.Explorer.Browse(ctx, w.namespace, w.name, f.node, w.left)
	if err != nil && first {
		return fmt.Errorf("browse device %s/%s: %w", w.namespace, w.name, err)
	}
	if err != nil {
		if err := w.out.send(Entry{Path: f.path, Node: f.node, Error: asError(err)}); err != nil {
			return err
		}
		if ctx.Err() != nil {
			w.cut = true
			return w.out.send(Entry{End: fmt.Sprintf("it took longer than %v", browseTime)})
		}
		return nil
	}
	batch := make([]any, 0, len(got))
	for _, e := range got {
		path := append(slices.Clone(f.path), e.Name)
		entry := Entry{Path: path, Node: e.Node, Visitor: e.Visitor, Writable: e.Writable}
		if e.Visitor != nil && e.Type != 0 { // a method has none
			entry.Type = e.Type.String()
		}
		batch = append(batch, entry)
		if e.Node != "" && !w.seen[e.Node] {
			w.seen[e.Node] = true
			w.next = append(w.next, folder{e.Node, path})
		}
	}
	w.left -= len(got)
	return w.out.send(batch...)
}

// scan looks for devices. One at a time: two would lengthen each other, and a line has room for one.
func (s *Server) scan(ctx context.Context, r *http.Request, out *lines) error {
	var req ScanRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	scanner, err := ScannerFor(s.opt.Drivers, req.Protocol)
	if err != nil {
		return err
	}
	if !take(s.scanning) {
		return &Error{Code: CodeBusy, Text: "another scan is under way: wait for its end, or end it"}
	}
	defer give(s.scanning)
	ctx, cancel := context.WithCancel(ctx)
	news := newFeed[ScanLine]()
	done := make(chan error, 1)
	go func() { done <- Scan(ctx, scanner, req, news.push) }()
	ended := false
	defer func() {
		cancel()
		if !ended {
			if err := <-done; err != nil { // the line is free when the next scan may begin
				s.opt.Log.Debug("a scan was given up", "why", err)
			}
		}
	}()
	for {
		select {
		case <-news.wake:
			if err := out.send(newest(news)...); err != nil {
				return err
			}
		case err := <-done:
			ended = true
			if err != nil && !out.begun {
				return err
			}
			last := ScanLine{Ended: true}
			if err != nil {
				last.Error = asError(err)
			} else if ctx.Err() != nil {
				last.Error = &Error{Code: CodeFailed, Text: fmt.Sprintf("the scan took longer than %v, or the agent stops", scanTime)}
			}
			return out.send(append(newest(news), last)...)
		}
	}
}

// newest takes what waits: all that was found, and of the progress the last line.
func newest(news *feed[ScanLine]) (out []any) {
	got, _ := news.take()
	for i, l := range got {
		if l.Found != nil || i == len(got)-1 {
			out = append(out, l)
		}
	}
	return out
}
