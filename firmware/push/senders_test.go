package push

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/mappers/device"
)

var measured = time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)

func values(opt *options) []item {
	var out []item
	for i, v := range []device.Value{device.Int(-5), device.Float(21.5), device.Bool(true), device.String(`a "b" \`), device.BadValue("no answer", measured), device.Float(1).Doubt(device.Uncertain, "old")} {
		out = append(out, item{history.Entry{Seq: uint64(i + 1), Epoch: 3, Namespace: "plant", Device: "pump 1", Property: "speed", Value: v.At(measured)}, opt})
	}
	return out
}

// dialTo makes the sender of a pushMethod.
func dialTo(t *testing.T, method object1, c credential) (sender, *options) {
	t.Helper()
	targets, err := parse("p", method)
	if err != nil {
		t.Fatal(err)
	}
	s, err := protocols()[targets[0].kind].dial(targets[0].endpoint, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s, targets[0].opt
}

// webMethods are the pushMethods that speak HTTP, for a server at a URL.
func webMethods(url string) map[string]object1 {
	return map[string]object1{
		"http": {"http": object1{"hostName": url, "requestPath": "/in"}}, "otel": {"otel": object1{"endpointURL": url}}, "influxdb2": influx(url, nil),
		"TDEngine": {"dbMethod": object1{"TDEngine": object1{"TDEngineClientConfig": object1{"addr": url, "dbName": "d"}}}},
	}
}

// TestWhatIsSent: these are recorded contracts, from the formats' documentation.
func TestWhatIsSent(t *testing.T) {
	var body []byte
	var head http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		head = r.Header
	}))
	defer srv.Close()
	line := "pump\\ 1,device=pump\\ 1,namespace=plant speed"
	for name, want := range map[string]string{
		"http": `{"values":[{"namespace":"plant","device":"pump 1","property":"speed","value":-5,"quality":"good","time":"2026-01-02T03:04:05.678000Z","epoch":3,"seq":1},` +
			`{"namespace":"plant","device":"pump 1","property":"speed","value":21.5,`,
		"otel": `{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"skerryd"}}]},"scopeMetrics":[{"scope":{"name":"skerryd"},"metrics":[{"name":"speed","gauge":{"dataPoints":[` +
			`{"attributes":[{"key":"namespace","value":{"stringValue":"plant"}},{"key":"device","value":{"stringValue":"pump 1"}},{"key":"quality","value":{"stringValue":"good"}}],"timeUnixNano":"1767323045678000000","asInt":"-5"}`,
		"influxdb2": line + "=-5i 1767323045678000000\n" + line + "=21.5 1767323045678000000\n" + line + "=true 1767323045678000000\n" +
			line + `="a \"b\" \\" 1767323045678000000` + "\n" + line + `_quality="bad" 1767323045678000000` + "\n" + line + `=1,speed_quality="uncertain" 1767323045678000000` + "\n",
		"TDEngine": line + "=-5i 1767323045678000000\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, opt := dialTo(t, webMethods(srv.URL)[name], credential{Token: "secret"})
			took, err := s.send(t.Context(), values(opt))
			if err != nil || !strings.HasPrefix(string(body), want) {
				t.Errorf("%v\n%s\nwant\n%s", err, body, want)
			}
			scheme := map[string]string{"http": "Bearer", "otel": "Bearer", "influxdb2": "Token", "TDEngine": "Taosd"}[name]
			if head.Get("Authorization") != scheme+" secret" {
				t.Errorf("%v", head)
			}
			if skipped := map[string]int{"otel": 1}[name]; took.skipped != skipped {
				t.Errorf("%+v", took)
			}
			if name == "http" || name == "otel" {
				if !json.Valid(body) {
					t.Errorf("no JSON: %s", body)
				}
			}
		})
	}
	s, opt := dialTo(t, influx(srv.URL, object1{"measurement": "m x", "fieldKey": "f=", "tag": object1{"unit": "a,b", "line": "1"}}), credential{Username: "u", Password: "p"})
	if _, err := s.send(t.Context(), values(opt)[:1]); err != nil || string(body) != `m\ x,line=1,unit=a\,b f\==-5i 1767323045678000000`+"\n" || !strings.HasPrefix(head.Get("Authorization"), "Basic ") {
		t.Errorf("%s, %v, %v", body, head, err)
	}
}

func TestServersThatRefuse(t *testing.T) {
	for status, refusal := range map[int]bool{400: true, 413: true, 422: true, 401: false, 403: false, 404: false, 429: false, 500: false, 503: false, 307: false} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			fmt.Fprintf(w, "no\n\x1b %s", strings.Repeat("x", 1<<20))
		}))
		for name, m := range webMethods(srv.URL) {
			s, opt := dialTo(t, m, credential{})
			_, err := s.send(t.Context(), values(opt))
			if err == nil || refused(err) != refusal || len(err.Error()) > 600 || !strings.Contains(err.Error(), fmt.Sprint(status)) || strings.ContainsAny(err.Error(), "\x1b\n") {
				t.Errorf("%s, %d: %v", name, status, err)
			}
		}
		srv.Close()
	}
}

// bad serves raw TCP: each connection gets to talk.
func bad(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); talk(c) }()
		}
	}()
	return l.Addr().String()
}

func allMethods(addr string) map[string]object1 {
	all := webMethods("http://" + addr)
	all["mqtt"] = object1{"mqtt": object1{"address": "tcp://" + addr, "qos": int64(1)}}
	all["redis"] = object1{"dbMethod": object1{"redis": object1{"redisClientConfig": object1{"addr": addr}}}}
	return all
}

// TestServersThatMisbehave: they are an error that can be tried again, in time, and never a success.
func TestServersThatMisbehave(t *testing.T) {
	for what, talk := range map[string]func(net.Conn){
		"hangs":      func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closes":     func(net.Conn) {},
		"garbage":    func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("\x7fnonsense"), 5000)) },
		"cut reply":  func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")) },
		"half MQTT":  func(c net.Conn) { _, _ = c.Write([]byte{0x20, 2, 0, 0, 0x40, 2, 0}) },
		"half redis": func(c net.Conn) { _, _ = c.Write([]byte("+OK\r\n+OK\r\n+QUEUED\r\n")) },
		"endless":    func(c net.Conn) { _, _ = c.Write([]byte{0x20, 0xff, 0xff, 0xff, 0xff, 0xff}) },
	} {
		addr := bad(t, talk)
		for name, m := range allMethods(addr) {
			s, opt := dialTo(t, m, credential{})
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			if _, err := s.send(ctx, values(opt)); err == nil || refused(err) {
				t.Errorf("%s, which %s: %v", name, what, err)
			}
			cancel()
			s.close()
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for name, m := range allMethods(addr) {
		s, opt := dialTo(t, m, credential{})
		if _, err := s.send(t.Context(), values(opt)); err == nil || refused(err) {
			t.Errorf("%s, nobody there: %v", name, err)
		}
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = nil
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, m := range webMethods(srv.URL) {
		s, opt := dialTo(t, m, credential{})
		if _, err := s.send(t.Context(), values(opt)); err == nil {
			t.Errorf("%s: a server that nobody vouches for is trusted", name)
		}
		s, opt = dialTo(t, m, credential{CA: ca})
		if _, err := s.send(t.Context(), values(opt)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOTLPPartialSuccess(t *testing.T) {
	for reply, want := range map[string]int{
		"": 0, "{}": 0, "garbage": 0, `{"partialSuccess":{}}`: 0, `{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}`: 2, `{"partialSuccess":{"rejectedDataPoints":3}}`: 3,
		`{"partialSuccess":{"rejectedDataPoints":-1}}`: 0,
	} {
		if n, _ := otlpRejected([]byte(reply)); n != want {
			t.Errorf("%s: %d", reply, n)
		}
	}
}

// TestMQTTWire holds the packets to the standard's octets (MQTT 3.1.1, sections 3.1 and 3.3).
func TestMQTTWire(t *testing.T) {
	got := mqttAppendConnect(nil, "id", "u", "pw")
	if want := "\x10\x15\x00\x04MQTT\x04\xc2\x00\x00\x00\x02id\x00\x01u\x00\x02pw"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	got = mqttAppendPublish(nil, "a/b", 10, true, bytes.Repeat([]byte("x"), 200))
	if want := "\x33\xcf\x01\x00\x03a/b\x00\x0a" + strings.Repeat("x", 200); string(got) != want {
		t.Errorf("%q", got)
	}
	for code, want := range map[byte]string{0: "", 5: "credentials", 1: "code 1"} {
		err := mqttAccepted(mqttConnack, []byte{0, code})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("code %d: %v", code, err)
		}
	}
}

// TestMQTTQoS0 counts as sent only what the broker has read.
func TestMQTTQoS0(t *testing.T) {
	got := make(chan string, 1)
	addr := bad(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			kind, body, err := mqttRead(r)
			switch {
			case err != nil:
				return
			case kind == 1:
				_, _ = c.Write([]byte{0x20, 2, 0, 0})
			case kind == 3:
				got <- string(body)
			case kind == 12:
				_, _ = c.Write([]byte{0xd0, 0})
			}
		}
	})
	s, opt := dialTo(t, object1{"mqtt": object1{"address": addr}}, credential{})
	if _, err := s.send(t.Context(), values(opt)[:1]); err != nil {
		t.Fatal(err)
	}
	if m := <-got; !strings.HasPrefix(m, "\x00\x19skerry/plant/pump 1/speed{\"namespace\"") {
		t.Errorf("%q", m)
	}
}

func FuzzMQTTReply(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0})
	f.Add([]byte{0x40, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, body, err := mqttRead(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && len(body) > mqttMaxReply {
			t.Error(len(body))
		}
	})
}

func FuzzRedisReply(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR x\r\n", "*2\r\n$3\r\nabc\r\n:1\r\n", "*-1\r\n", "$-1\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+a\r\n", "\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if respRead(bufio.NewReader(bytes.NewReader(b)), 0) == nil && !bytes.Contains(b, []byte("\r\n")) {
			t.Errorf("%q is no reply", b)
		}
	})
}

func TestRedisExec(t *testing.T) {
	for in, want := range map[string]struct {
		refused int
		err     string
	}{
		"*2\r\n$3\r\n1-0\r\n$3\r\n1-1\r\n":           {0, ""},
		"*2\r\n-WRONGTYPE of a key\r\n$3\r\n1-1\r\n": {1, ""},
		"*-1\r\n":                             {0, `answers EXEC of 2 commands with "*-1"`},
		"-EXECABORT discarded\r\n":            {0, "the server answers: EXECABORT discarded"},
		"*2\r\n$3\r\n1-0\r\n":                 {0, "EOF"},
		"*2\r\n*1\r\n-ERR x\r\n$3\r\n1-1\r\n": {0, "within an array"},
		"*2\r\n$99999999\r\n":                 {0, "allowed are -1 to"},
		"+" + strings.Repeat("x", 9999):       {0, "a line of a reply has more than"},
	} {
		got, err := respExec(bufio.NewReader(strings.NewReader(in)), 2)
		if got.refused != want.refused || (err == nil) != (want.err == "") || err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%.40q: %+v, %v", in, got, err)
		}
	}
}

func FuzzOTLPReply(f *testing.F) {
	f.Add([]byte(`{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, why := otlpRejected(b); n < 0 || len(why) > 300 {
			t.Error(n, why)
		}
	})
}

func FuzzExcerpt(f *testing.F) {
	f.Add([]byte("a\x1b[0m\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := excerpt(b); len(s) > 300 || strings.ContainsAny(s, "\n\x1b\x00") {
			t.Errorf("%q", s)
		}
	})
}
