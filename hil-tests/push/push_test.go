//go:build integration

package push

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/push"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/mappers/device"
)

// server is a program that can be ended and started again on its port.
type server struct {
	t    *testing.T
	args []string
	addr string
	cmd  *exec.Cmd
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = os.Stderr, os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start %s (scripts/deps.sh push installs it): %v", s.args[0], err)
	}
	wait(s.t, s.args[0]+" listens", func() bool {
		c, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (s *server) stop(sig os.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait() // it was ended by a signal
	s.cmd = nil
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// desired is one Device.
type desired struct{ obj wire.Object }

func (d desired) Get(key wire.Key) (wire.Object, bool) { return d.obj, key == d.obj.Key }
func (d desired) List(wire.Kind) []wire.Object         { return []wire.Object{d.obj} }
func (d desired) C() <-chan struct{}                   { return nil }
func (d desired) Take() []wire.Key                     { return nil }

// gateway is a history and what pushes it, as the agent wires them.
type gateway struct {
	t      *testing.T
	dir    string
	want   desired
	creds  string
	epoch  uint64
	h      *history.History
	p      *push.Pusher
	stop   context.CancelFunc
	parts  sync.WaitGroup
	values int
}

func (g *gateway) start() {
	g.t.Helper()
	sealer, err := store.OpenKeyFile(filepath.Join(g.dir, "seal.key"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.epoch++
	g.h, err = history.Open(history.Options{Dir: filepath.Join(g.dir, "history"), Sealer: sealer, Epoch: g.epoch, Window: 100 * time.Millisecond})
	if err != nil {
		g.t.Fatal(err)
	}
	g.p = push.New(push.Options{Desired: g.want, Watch: g.want, History: g.h, Credentials: g.creds, Targets: 8, Values: 50, Interval: 100 * time.Millisecond, Queue: 100})
	ctx, cancel := context.WithCancel(context.Background())
	g.stop = cancel
	g.parts.Go(func() { _ = g.h.Run(ctx) })
	g.parts.Go(func() { _ = g.p.Run(ctx) })
}

func (g *gateway) end() {
	g.stop()
	g.parts.Wait()
	if err := g.h.Close(); err != nil {
		g.t.Error(err)
	}
}

func (g *gateway) record(n int) {
	for range n {
		g.values++
		g.h.Record("plant", "pump", "speed", device.Int(int64(g.values)).At(time.Now()))
	}
}

// sent is how many values each target has had since the start.
func (g *gateway) status() string {
	var b strings.Builder
	for _, s := range g.p.Status() {
		fmt.Fprintf(&b, "%+v\n", s)
	}
	return b.String()
}

// TestOutages: what the history has arrives in order, through outages of the targets and a restart of the gateway's side while they last.
func TestOutages(t *testing.T) {
	dir := t.TempDir()
	broker := &server{t: t, addr: "127.0.0.1:" + freePort(t)}
	_, port, _ := net.SplitHostPort(broker.addr)
	users, conf, creds := filepath.Join(dir, "users"), filepath.Join(dir, "mosquitto.conf"), filepath.Join(dir, "push.yaml")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", users, "gw", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd (scripts/deps.sh push installs it): %v: %s", err, out)
	}
	write(t, conf, "listener "+port+" 127.0.0.1\npassword_file "+users+"\npersistence true\npersistence_location "+dir+"/\nmax_queued_messages 0\nuser "+user()+"\n")
	broker.args = []string{program("mosquitto"), "-c", conf}
	cache := &server{t: t, addr: "127.0.0.1:" + freePort(t)}
	_, redisPort, _ := net.SplitHostPort(cache.addr)
	cache.args = []string{"redis-server", "--port", redisPort, "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret"}
	write(t, creds, "targets:\n- {address: 'tcp://"+broker.addr+"', username: gw, password: secret}\n- {address: 'redis://"+cache.addr+"', password: secret}\n")
	broker.start()
	defer func() { broker.stop(syscall.SIGKILL) }()
	cache.start()
	defer func() { cache.stop(syscall.SIGKILL) }()
	got := subscribe(t, port)

	body, err := canon.FromValue(map[string]any{
		"metadata": map[string]any{"name": "pump", "namespace": "plant"},
		"spec": map[string]any{"properties": []any{map[string]any{"name": "speed", "pushMethod": map[string]any{
			"mqtt":     map[string]any{"address": "tcp://" + broker.addr, "qos": int64(1)},
			"dbMethod": map[string]any{"redis": map[string]any{"redisClientConfig": map[string]any{"addr": cache.addr, "db": int64(2)}}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{t: t, dir: dir, creds: creds, want: desired{wire.Object{Key: wire.NewKey(wire.KindDevice, "plant", "pump", ""), Body: body}}}
	g.start()
	defer func() { g.end() }()

	g.record(120)
	wait(t, "both targets have the first values", func() bool { return got.last() == 120 && redisCount(redisPort) == 120 })
	cache.stop(syscall.SIGKILL)
	g.record(300)
	wait(t, "the broker has what came while Redis was down: "+g.status(), func() bool { return got.last() == 420 })
	broker.stop(syscall.SIGTERM) // so that it writes the subscriber's session
	g.record(200)
	wait(t, "both targets say that they fail", func() bool { return strings.Count(g.status(), "Failing:0001-01-01") == 0 })
	g.end()
	g.start()
	g.record(50)
	cache.start()
	wait(t, "Redis has all", func() bool { return redisCount(redisPort) >= 670 })
	broker.start()
	wait(t, "the broker has all", func() bool { return got.last() == 670 })

	if repeated := got.check(t, 670); repeated > 0 {
		t.Logf("MQTT: %d messages came twice, which QoS 1 allows", repeated)
	}
	entries := redisValues(t, redisPort)
	if len(entries) != 670 {
		t.Errorf("Redis has %d entries", len(entries))
	}
	for i, v := range entries {
		if v != i+1 {
			t.Fatalf("entry %d of Redis is %d", i, v)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// user keeps mosquitto from becoming another one, who may not read its files.
func user() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// program finds what Debian puts where only root looks.
func program(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return "/usr/sbin/" + name
}

// messages are what a subscriber gets.
type messages struct {
	mu   sync.Mutex
	list []message
}

type message struct {
	Value      int
	Epoch, Seq uint64
	Quality    string
}

// subscribe starts mosquitto_sub with a session that the broker keeps.
func subscribe(t *testing.T, port string) *messages {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "stdbuf", "-oL", "mosquitto_sub", "-p", port, "-h", "127.0.0.1", "-u", "gw", "-P", "secret", "-c", "-i", "witness", "-q", "1", "-d", "-t", "skerry/plant/pump/speed")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m, ready := &messages{}, make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		once := sync.Once{}
		for sc := bufio.NewScanner(out); sc.Scan(); {
			var x message
			if strings.Contains(sc.Text(), "SUBACK") {
				once.Do(func() { close(ready) })
			}
			if !strings.HasPrefix(sc.Text(), "{") || json.Unmarshal(sc.Bytes(), &x) != nil {
				continue
			}
			m.mu.Lock()
			m.list = append(m.list, x)
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done; _ = cmd.Wait() })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("mosquitto_sub does not subscribe")
	}
	return m
}

func (m *messages) last() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.list) == 0 {
		return 0
	}
	return m.list[len(m.list)-1].Value
}

// check holds the messages to all values in order, but for such that came twice, and returns how many those are.
func (m *messages) check(t *testing.T, n int) (repeated int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[[2]uint64]bool{}
	next := 1
	for _, x := range m.list {
		if key := [2]uint64{x.Epoch, x.Seq}; seen[key] {
			repeated++
			continue
		} else {
			seen[key] = true
		}
		if x.Value != next || x.Quality != "good" {
			t.Fatalf("message %+v, want the value %d", x, next)
		}
		next++
	}
	if next != n+1 {
		t.Errorf("%d values came, want %d", next-1, n)
	}
	return repeated
}

func redis(port string, args ...string) string {
	cmd := exec.Command("redis-cli", append([]string{"-p", port, "-n", "2", "--raw"}, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH=secret")
	out, _ := cmd.Output() // a server that is down has nothing
	return strings.TrimSpace(string(out))
}

func redisCount(port string) int {
	n, err := strconv.Atoi(redis(port, "XLEN", "skerry:plant/pump"))
	if err != nil {
		return -1
	}
	return n
}

// redisValues returns the stream's values in order.
func redisValues(t *testing.T, port string) (out []int) {
	t.Helper()
	lines := strings.Split(redis(port, "XRANGE", "skerry:plant/pump", "-", "+"), "\n")
	for i, line := range lines {
		if i > 0 && lines[i-1] == "value" {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
	}
	return out
}
