package push

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// maxReply is how much of an answer is read.
const maxReply = 64 << 10

// web posts to one URL.
type web struct {
	client *http.Client
	url    string
	header http.Header
}

// newWeb returns a client with a connection of its own. Redirects are not followed: credentials are for the address that the gateway's file names.
func newWeb(e endpoint, c credential, contentType string) (*web, error) {
	t := &http.Transport{MaxIdleConnsPerHost: 1, MaxConnsPerHost: 1, IdleConnTimeout: 90 * time.Second, DisableCompression: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: maxReply}
	if strings.HasPrefix(e.address, "https://") {
		var err error
		if t.TLSClientConfig, err = c.tls(e.address); err != nil {
			return nil, err
		}
	}
	w := &web{url: e.address + e.path, header: http.Header{"Content-Type": {contentType}, "User-Agent": {"skerryd"}}, client: &http.Client{
		Transport: t, Timeout: e.timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for name, value := range c.Headers {
		w.header.Set(name, value)
	}
	return w, nil
}

// authorize sets how the gateway proves who it is: a token with its scheme, or a name and a password.
func (w *web) authorize(c credential, scheme string) {
	switch {
	case c.Token != "":
		w.header.Set("Authorization", scheme+" "+c.Token)
	case c.Username != "":
		r := http.Request{Header: w.header}
		r.SetBasicAuth(c.Username, c.Password)
	}
}

// post sends a body and returns what was answered with a status of success.
func (w *web) post(ctx context.Context, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header = w.header.Clone()
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return reply, judge(resp.StatusCode, reply)
}

// judge says what a status means for the batch. Only what is about the content is a refusal: a wrong token, path or bucket is mended at the
// server or in the manifest, and the values wait for that.
func judge(status int, reply []byte) error {
	if status >= 200 && status < 300 {
		return nil
	}
	err := fmt.Errorf("the server answers %d %s: %s", status, http.StatusText(status), excerpt(reply))
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &refusal{err}
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (credentials come from the file that devices.push.credentials names)", err)
	}
	if status >= 300 && status < 400 {
		return fmt.Errorf("%w (redirects are not followed: name the address itself)", err)
	}
	return err
}

func (w *web) close() { w.client.CloseIdleConnections() }

// excerpt is the beginning of what a server says, on one line.
func excerpt(b []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b[:min(len(b), 1024)]), "?")), " ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), 300)], "")
}
