package pods

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// TestGRPCProbe asks servers that answer as gRPC's documentation has it, and some that do not.
func TestGRPCProbe(t *testing.T) {
	answer := func(status, message, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
			_, _ = io.WriteString(w, body)
			w.Header().Set("Grpc-Status", status)
			w.Header().Set("Grpc-Message", message)
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // of the error; empty: healthy
	}{
		{"serving", answer("0", "", "\x00\x00\x00\x00\x02\x08\x01"), ""},
		{"not serving", answer("0", "", "\x00\x00\x00\x00\x02\x08\x02"), `"NOT_SERVING"`},
		{"unknown", answer("0", "", "\x00\x00\x00\x00\x00"), `"UNKNOWN"`},
		{"no health service", answer("12", "unknown service grpc.health.v1.Health", ""), "does not implement"},
		{"other service", answer("5", "", ""), "unknown service"},
		{"truncated", answer("0", "", "\x00\x00\x00\x00\x09\x08\x01"), "not a HealthCheckResponse"},
		{"no gRPC", http.NotFound, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var asked []byte
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			srv := &http.Server{ReadHeaderTimeout: time.Second, Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != healthCheck || r.Header.Get("Content-Type") != "application/grpc" {
					t.Errorf("asked for %s as %s", r.URL.Path, r.Header.Get("Content-Type"))
				}
				asked, _ = io.ReadAll(r.Body)
				c.handler(w, r)
			})}
			go srv.Serve(l)   //nolint:errcheck // ends with the test
			defer srv.Close() //nolint:errcheck // ends with the test
			_, port, err := net.SplitHostPort(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.ParseInt(port, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			err = (&caller{ip: "127.0.0.1"}).grpc(t.Context(), &corev1.GRPCAction{Port: int32(n), Service: "pump"})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if string(asked) != "\x00\x00\x00\x00\x06\x0a\x04pump" {
				t.Errorf("asked %q", asked)
			}
		})
	}
	if err := (&caller{ip: "127.0.0.1"}).grpc(t.Context(), &corev1.GRPCAction{Port: 1}); err == nil {
		t.Error("a port that nobody listens on is healthy")
	}
}

func FuzzGRPCHealth(f *testing.F) {
	for _, s := range []string{"\x00\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x04\x12\x02ab", "\x01\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x03\x12\xff\x01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, err := grpcHealth(b); err != nil && status != 0 {
			t.Errorf("%q: status %d beside error %v", b, status, err)
		}
	})
}
