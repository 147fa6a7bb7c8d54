package push

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

func parseHTTP(path string, data map[string]any) (target, error) {
	f := read(path, data, "hostName", "port", "requestPath", "timeout")
	f.Require("a scheme and a host, as http://historian.example", "hostName")
	port := f.Int(0, 0, 65535, "port")
	request := f.text("requestPath")
	t := target{opt: &options{}}
	t.timeout = timeoutOf(f)
	if host := f.text("hostName"); host != "" {
		base, rest := address(f.Fields, "hostName", host, port, webSchemes)
		if rest != "/" && base != "" {
			f.Fail("hostName", host, "has a path", "a scheme and a host; requestPath is for the path")
		}
		t.address = base
	}
	if t.path = "/"; request != "" {
		t.path = requestPath(f, "requestPath", request)
	}
	return t, f.err()
}

func timeoutOf(f *reading) time.Duration {
	ms := f.Int(0, 0, maxTimeout.Milliseconds(), "timeout")
	if ms == 0 {
		return defaultTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

// httpValue is one value in the body of a request.
type httpValue struct {
	Namespace  string `json:"namespace"`
	Device     string `json:"device"`
	Property   string `json:"property"`
	Value      any    `json:"value"`
	Quality    string `json:"quality"`
	Reason     string `json:"reason,omitempty"`
	Time       string `json:"time"`
	SourceTime string `json:"sourceTime,omitempty"`
	Epoch      uint64 `json:"epoch,omitempty"`
	Seq        uint64 `json:"seq,omitempty"`
	Missed     uint64 `json:"missed,omitempty"`
}

// document is the value as HTTP, MQTT and Redis carry it.
func document(it *item) httpValue {
	v := it.Value
	out := httpValue{
		Namespace: it.Namespace, Device: it.Device, Property: it.Property, Value: jsonDatum(v), Quality: v.Quality.String(), Reason: v.Reason,
		Time: stamp(v.Server), Epoch: it.Epoch, Seq: it.Seq, Missed: it.Missed,
	}
	if !v.Source.IsZero() {
		out.SourceTime = stamp(v.Source)
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

type httpSender struct{ *web }

func dialHTTP(e endpoint, c credential) (sender, error) {
	w, err := newWeb(e, c, "application/json")
	if err != nil {
		return nil, err
	}
	w.authorize(c, "Bearer")
	return httpSender{w}, nil
}

func (h httpSender) send(ctx context.Context, items []item) (tally, error) {
	body := struct {
		Values []httpValue `json:"values"`
	}{make([]httpValue, 0, len(items))}
	for i := range items {
		body.Values = append(body.Values, document(&items[i]))
	}
	b, err := json.Marshal(body)
	if err != nil {
		return tally{}, fmt.Errorf("encode the values: %w", err)
	}
	_, err = h.post(ctx, b)
	return tally{}, err
}

// requestPath judges the path of a request.
func requestPath(f *reading, field, text string) string {
	if text[0] != '/' {
		f.Fail(field, text, "does not begin with /", "/PATH")
		return "/"
	}
	_, rest := address(device.NewFields("", nil), field, "http://h"+text, 0, webSchemes)
	if rest == "" {
		f.Fail(field, text, "is no path of a URL", "/PATH, with what has a meaning in URLs escaped")
		return "/"
	}
	return rest
}
