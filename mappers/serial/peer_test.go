package serial

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// meter is a device on a pseudo-terminal: lines like "01R set" are answered with "01set=12.5", and "01W set 7" with "01OK".
type meter struct {
	pty *linetest.PTY

	mu     sync.Mutex
	values map[string]string
	silent bool
	log    []string
	answer func(request string) (reply string, ok bool) // instead of the usual one
	wg     sync.WaitGroup
}

func startMeter(t *testing.T) *meter {
	t.Helper()
	m := &meter{pty: linetest.OpenPTY(t), values: map[string]string{}}
	m.serve()
	t.Cleanup(func() {
		m.pty.Unplug()
		m.wg.Wait()
	})
	return m
}

// serve answers until the port is unplugged.
func (m *meter) serve() {
	peer := m.pty.Peer()
	m.wg.Go(func() {
		var have []byte
		buf := make([]byte, 256)
		for {
			n, err := peer.Read(buf)
			if err != nil {
				return
			}
			have = append(have, buf[:n]...)
			for {
				line, rest, ok := bytes.Cut(have, []byte("\r"))
				if !ok {
					break
				}
				have = rest
				if reply := m.reply(string(line)); reply != "" {
					if _, err := peer.WriteString(reply); err != nil {
						return
					}
				}
			}
		}
	})
}

func (m *meter) reply(request string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, request)
	if m.silent {
		return ""
	}
	if m.answer != nil {
		if reply, ok := m.answer(request); ok {
			return reply
		}
	}
	var station, verb, name, value string
	if _, err := fmt.Sscanf(request, "%2s%1s %s %s", &station, &verb, &name, &value); err != nil && verb == "" {
		return ""
	}
	switch verb {
	case "R":
		return station + name + "=" + m.values[name] + "\r\n"
	case "W":
		if value == "13" {
			return station + "NO unlucky\r\n"
		}
		m.values[name] = value
		return station + "OK\r\n"
	}
	return ""
}

func (m *meter) set(name, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[name] = value
}

func (m *meter) hush(silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = silent
}

// flood sends garbage without end, until the returned function is called.
func (m *meter) flood(t *testing.T) (stop func()) {
	m.hush(true)
	peer, quit, done := m.pty.Peer(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := peer.WriteString(strings.Repeat("garbage without an end ", 100)); err != nil {
				return
			}
			select {
			case <-quit:
				return
			default:
			}
		}
	}()
	return func() {
		close(quit)
		if err := peer.SetWriteDeadline(time.Unix(1, 0)); err != nil {
			t.Error(err)
		}
		<-done
		if err := peer.SetWriteDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
	}
}

// requests returns what the device was asked so far, and forgets it.
func (m *meter) requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.log
	m.log = nil
	return out
}

func (m *meter) say(t *testing.T, text string) {
	t.Helper()
	if _, err := m.pty.Peer().WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// visitor is a property's configuration for tests.
func visitor(t device.Type, kv ...any) device.PointConfig {
	d := devicetest.Data(kv...)
	return device.PointConfig{Property: "p", Path: "spec.properties[p].visitors.configData", Type: t, Writable: d["write"] != nil, Visitor: d}
}

func (m *meter) config(kv ...any) device.Config {
	d := devicetest.Data("serialPort", m.pty.Path, "delimiter", "\\r\\n", "timeout", 150, "retries", 0)
	for k, v := range devicetest.Data(kv...) {
		d[k] = v
	}
	return device.Config{Device: "ns/dev", Protocol: d}
}

// read reads and returns the values' texts, or their reasons in brackets.
func read(t *testing.T, s device.Session, points []device.Point) ([]string, error) {
	t.Helper()
	values := make([]device.Value, len(points))
	err := s.Read(t.Context(), points, values)
	out := make([]string, len(values))
	for i, v := range values {
		if out[i] = v.Text(); v.Quality != device.Good {
			out[i] += "[" + v.Quality.String() + ": " + v.Reason + "]"
		}
	}
	return out, err
}

// eventually waits until check is content.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !check(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
