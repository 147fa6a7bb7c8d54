package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/skerry/skerry/firmware/localhttp"
)

// maxAnswer bounds what is read of an answer, maxLine of a line of a stream.
const (
	maxAnswer = 64 << 20
	maxLine   = 1 << 20
)

// Client asks an agent on its control socket. It is safe for concurrent use.
type Client struct{ socket string }

// NewClient returns a client of the socket at path. It does not connect yet.
func NewClient(path string) *Client { return &Client{socket: path} }

// Devices lists the gateway's devices with their last values.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	var out []Device
	err := c.ask(ctx, http.MethodGet, "/v1/devices", nil, &out)
	return out, err
}

// Read asks a device for properties, all of them if none is named.
func (c *Client) Read(ctx context.Context, namespace, name string, properties []string) ([]Property, error) {
	var out []Property
	err := c.ask(ctx, http.MethodPost, path(namespace, name, "read"), ReadRequest{properties}, &out)
	return out, err
}

// Write writes a property and says what became of it.
func (c *Client) Write(ctx context.Context, namespace, name, property, value string) (WriteAnswer, error) {
	var out WriteAnswer
	err := c.ask(ctx, http.MethodPost, path(namespace, name, "write"), WriteRequest{property, value}, &out)
	return out, err
}

// Call calls a method.
func (c *Client) Call(ctx context.Context, namespace, name, method string, arguments map[string]string) (map[string]string, error) {
	var out CallAnswer
	err := c.ask(ctx, http.MethodPost, path(namespace, name, "call"), CallRequest{method, arguments}, &out)
	return out.Results, err
}

// Plan says what polling a device and those that share its line costs; the device is the first.
func (c *Client) Plan(ctx context.Context, namespace, name string) (LinePlan, error) {
	var out LinePlan
	err := c.ask(ctx, http.MethodGet, path(namespace, name, "plan"), nil, &out)
	return out, err
}

// Certificates lists what the drivers trust.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	var out []Certificate
	err := c.ask(ctx, http.MethodGet, "/v1/certificates", nil, &out)
	return out, err
}

// Decide accepts or rejects a certificate by its fingerprint or the beginning of it.
func (c *Client) Decide(ctx context.Context, fingerprint, verb string) (Certificate, error) {
	var out Certificate
	err := c.ask(ctx, http.MethodPost, "/v1/certificates/"+url.PathEscape(fingerprint)+"/"+verb, nil, &out)
	return out, err
}

// Watch calls fn for each line until ctx ends or fn returns an error. No devices means all.
func (c *Client) Watch(ctx context.Context, devices, properties []string, fn func(Change) error) error {
	q := url.Values{"device": devices, "property": properties}
	return follow(ctx, c, http.MethodGet, "/v1/watch?"+q.Encode(), nil, fn)
}

// Browse calls fn for each line.
func (c *Client) Browse(ctx context.Context, namespace, name string, req BrowseRequest, fn func(Entry) error) error {
	return follow(ctx, c, http.MethodPost, path(namespace, name, "browse"), req, fn)
}

// History calls fn for each value that was kept, the oldest first.
func (c *Client) History(ctx context.Context, namespace, name string, req HistoryRequest, fn func(Change) error) error {
	return follow(ctx, c, http.MethodPost, path(namespace, name, "history"), req, fn)
}

// HistoryStats says what is kept of a device, what is not, and how far those are who want it.
func (c *Client) HistoryStats(ctx context.Context, namespace, name string) (HistoryStats, error) {
	var out HistoryStats
	err := c.ask(ctx, http.MethodGet, path(namespace, name, "history"), nil, &out)
	return out, err
}

// Scan calls fn for each line.
func (c *Client) Scan(ctx context.Context, req ScanRequest, fn func(ScanLine) error) error {
	return follow(ctx, c, http.MethodPost, "/v1/scan", req, fn)
}

func path(namespace, name, verb string) string {
	return "/v1/devices/" + url.PathEscape(namespace) + "/" + url.PathEscape(name) + "/" + verb
}

// do sends a request. The caller closes the answer's body. An answer that is an error is one of *Error.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://skerryd"+path, content)
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	resp, err := localhttp.Client(c.socket).Do(req)
	if err != nil {
		return nil, localhttp.Explain(c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := new(Error)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(e); err != nil || e.Text == "" {
		return nil, fmt.Errorf("the agent on %s answers with HTTP %s: is control.socket the agent's?", c.socket, resp.Status)
	}
	return nil, e
}

func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
		return c.cut(err)
	}
	return nil
}

// follow reads a stream's lines.
func follow[T any](ctx context.Context, c *Client, method, path string, body any, fn func(T) error) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 0, 4<<10), maxLine)
	for in.Scan() {
		var line T
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			return fmt.Errorf("the agent on %s sent a line that is not JSON: %w", c.socket, err)
		}
		if err := fn(line); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil && ctx.Err() == nil {
		return c.cut(err)
	}
	return ctx.Err()
}

// cut says that the agent went away in the middle of an answer.
func (c *Client) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "reset") {
		return fmt.Errorf("the agent on %s went away before its answer was whole: was skerryd stopped? (systemctl status skerryd): %w", c.socket, err)
	}
	return fmt.Errorf("read the agent's answer on %s: %w", c.socket, err)
}
