package kubeletapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// TestLoopbackOnly: nothing that the runtime says leads off the gateway.
func TestLoopbackOnly(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:4321/exec/abc": "127.0.0.1:4321", "http://[::1]:1/x": "[::1]:1", "http://localhost:7/x": "127.0.0.1:7",
		"https://127.0.0.1:4321/exec/abc": "", "http://10.0.0.1:80/x": "", "http://example.org:80/": "", "http://127.0.0.1/x": "", "ftp://127.0.0.1:1/": "", "": "", "http://[::]:1/": "", "http://0.0.0.0:1/": "",
	} {
		u, err := streamingURL(text)
		if want == "" && err == nil || want != "" && (err != nil || u.Host != want) {
			t.Errorf("%q: %v, %v", text, u, err)
		}
	}
	if _, err := dialLoopback(t.Context(), "tcp", "192.0.2.1:80"); err == nil || !strings.Contains(err.Error(), "not on loopback") {
		t.Errorf("dialled: %v", err)
	}
}

// TestExecIsHandedThrough: what is asked of the runtime, and bytes both ways until either side ends.
func TestExecIsHandedThrough(t *testing.T) {
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Path: %s\r\n\r\n", r.URL.Path)
		_, _ = io.Copy(c, rw)
	}))
	defer runtime.Close()
	b := newBench(t, func(o *Options) { o.MaxRequests = 1 })
	b.rt.url = runtime.URL + "/exec/token"
	b.rt.set(cri.ContainerRunning, 3)
	open := func(path string) (net.Conn, *bufio.Reader, *http.Response) {
		c, err := net.Dial("tcp", b.web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n", path)
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, in, resp
	}
	c, in, resp := open("/exec/default/web/u-1/main?command=sh&command=-c&input=1&output=1&error=1&tty=1")
	if resp.StatusCode != 101 || resp.Header.Get("X-Path") != "/exec/token" {
		t.Fatalf("%v", resp)
	}
	fmt.Fprint(c, "there and back")
	got := make([]byte, 14)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "there and back" {
		t.Errorf("%q %v", got, err)
	}
	want := fmt.Sprintf("%+v", cri.ExecRequest{ContainerID: "c3", Cmd: []string{"sh", "-c"}, TTY: true, Stdin: true, Stdout: true})
	if asked := fmt.Sprintf("%+v", b.rt.asked[0]); asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
	_ = c.Close()
	b.until("free when the client is gone", func() bool { status, _ := b.get("/healthz"); return status == 200 })

	for path, want := range map[string]int{
		"/exec/default/web/other-uid/main?command=sh&output=1": 404, "/exec/default/web/main?output=1": 400, "/exec/default/web/main?command=sh": 400,
		"/exec/default/web/term?command=sh&output=1": 404, "/portForward/default/web?port=0": 400, "/portForward/default/web": 404,
	} {
		c, _, resp := open(path)
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
		_ = c.Close()
		b.until("free again", func() bool { return len(b.srv.slots) == 0 })
	}
	if status, body := b.get("/attach/default/web/main?output=1"); status != 400 || !strings.Contains(body, "upgraded") {
		t.Errorf("%d %s", status, body)
	}
}
