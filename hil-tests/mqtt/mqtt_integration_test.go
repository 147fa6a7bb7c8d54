//go:build integration

package mqtt

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	pump = "$hw/events/device/default/pump/"
	node = "$hw/events/node/gw-1/membership/"
)

func TestBus(t *testing.T) {
	g := newGateway(t)
	t.Run("every type", g.everyType)
	t.Run("refusals", g.refusals)
	t.Run("delta and document", g.tells)
	t.Run("membership", g.membership)
	t.Run("a hostile device", g.hostile)
	t.Run("50 clients", g.clients)
	t.Run("restart", g.restarts)
}

// of is a property's part of a twin message.
func of(m map[string]any, property, part string) string {
	twin, _ := m["twin"].(map[string]any)
	p, _ := twin[property].(map[string]any)
	v, _ := p[part].(map[string]any)
	return fmt.Sprint(v["value"])
}

func (g *gateway) everyType(t *testing.T) {
	for property, value := range map[string]string{
		"int": "42", "float": "1.25", "double": "1e+300", "boolean": "true", "bytes": "AAEC/w==", "fixed": "-7", "string": `two words = {"k": "v", "n": [1, 2]} 'q' ü`,
	} {
		quoted, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.ask("pump", pump+"twin/update", fmt.Sprintf(`{"event_id":"e-%s","twin":{%q:{"actual":{"value":%s}}}}`, property, property, quoted))
		if err != nil || got["code"] != nil || got["event_id"] != "e-"+property {
			t.Errorf("%s: %v, %v", property, got, err)
			continue
		}
		g.eventually(property+" is the device's", func() error {
			got, err := g.ask("app", pump+"twin/get", `{"event_id":"g"}`)
			if err == nil && of(got, property, "actual") != value {
				err = fmt.Errorf("want %s: %v", value, got)
			}
			return err
		})
	}
	if got, err := g.ask("pump", pump+"state/update", `{"event_id":"s","state":"online"}`); err != nil || got["state"] != "online" {
		t.Errorf("%v, %v", got, err)
	}
}

func (g *gateway) refusals(t *testing.T) {
	for _, tc := range []struct {
		topic, payload string
		code           float64
	}{
		{pump + "twin/update", `{"event_id":"x","twin":{"nope":{"actual":{"value":"1"}}}}`, 404},
		{pump + "twin/update", `{"event_id":"x","twin":{"int":{"actual":{"value":"red"}}}}`, 400},
		{pump + "twin/update", `{"event_id":"x","twin":{"int":{"expected":{"value":"101"}}}}`, 403},
		{pump + "twin/update", `{"event_id":"x","twin":{"fixed":{"expected":{"value":"1"}}}}`, 403},
		{pump + "state/update", `{"event_id":"x","state":"asleep"}`, 400},
	} {
		got, err := g.ask("pump", tc.topic, tc.payload)
		if err != nil || got["code"] != tc.code || got["event_id"] != "x" || got["reason"] == "" {
			t.Errorf("%s: %v, %v", tc.payload, got, err)
		}
	}
	if err := g.pub("pump", "-t", "plant/x", "-q", "1", "-m", "x"); err == nil {
		t.Error("a device published on another topic")
	}
	if err := g.pub("nobody", "-t", "plant/x", "-m", "x"); err == nil {
		t.Error("somebody unknown was let in")
	}
}

func (g *gateway) tells(t *testing.T) {
	l := g.sub("app", "-v", "-q", "1", "-W", "6", "-t", pump+"twin/update/delta", "-t", pump+"twin/update/document")
	g.eventually("the delta has a subscriber", func() error { // which is where the device is listening
		got, err := g.ask("app", pump+"twin/update", `{"twin":{"int":{"expected":{"value":"9"}}}}`)
		if err == nil && got["code"] != nil {
			err = errors.New(fmt.Sprint(got))
		}
		return err
	})
	if got, err := g.ask("pump", pump+"twin/update", `{"twin":{"int":{"actual":{"value":"9"}}}}`); err != nil || got["code"] != nil {
		t.Errorf("%v, %v", got, err)
	}
	out := l.wait()
	for _, want := range []string{pump + "twin/update/delta ", `"delta":{"int":"9"}`, pump + "twin/update/document "} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
}

func (g *gateway) membership(t *testing.T) {
	got, err := g.ask("app", node+"get", `{"event_id":"m"}`)
	text := fmt.Sprint(got["devices"])
	if err != nil || got["event_id"] != "m" || !strings.Contains(text, "default/pump") || !strings.Contains(text, "default/hostile") {
		t.Errorf("%v, %v", got, err)
	}
}

// figure reads a metric.
func (g *gateway) figure(name string) float64 {
	g.t.Helper()
	req := must[*http.Request](g.t)(http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.metrics+"/metrics", nil))
	resp := must[*http.Response](g.t)(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	for line := range strings.Lines(string(must[[]byte](g.t)(io.ReadAll(resp.Body)))) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return must[float64](g.t)(strconv.ParseFloat(strings.TrimSpace(rest), 64))
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// raw connects from the hostile device's own address.
func (g *gateway) raw() (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}, Timeout: 10 * time.Second}
	return d.DialContext(g.t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", g.port))
}

// connect is a CONNECT of the hostile device.
func connect(id string) []byte {
	field := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	b := append(field("MQTT"), 4, 0xc2, 0, 60)
	for _, s := range []string{id, "hostile", "hostile secret"} {
		b = append(b, field(s)...)
	}
	return append([]byte{0x10, byte(len(b))}, b...)
}

// hostile does what it can; the pump and the application must notice nothing.
func (g *gateway) hostile(t *testing.T) {
	before := rss(t, g)
	for _, filter := range []string{"#", "$hw/#", "$hw/events/device/+/+/#", "$hw/events/device/default/pump/#", "$share/x/$hw/#", "plant/#"} {
		out := g.sub("hostile", "-d", "-W", "3", "-t", filter).wait()
		if !strings.Contains(out, "128") { // SUBACK with failure
			t.Errorf("%s: %s", filter, out)
		}
	}
	if _, err := g.ask("hostile", pump+"twin/update", `{"twin":{"int":{"actual":{"value":"66"}}}}`); err == nil {
		t.Error("the hostile device was answered about the pump")
	}
	// 256 MB are declared, as a stranger and as itself.
	for _, start := range [][]byte{nil, connect("big")} {
		c := must[net.Conn](t)(g.raw())
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if start != nil {
			if _, err := c.Write(start); err != nil {
				t.Fatal(err)
			}
			ack := make([]byte, 4)
			if _, err := io.ReadFull(c, ack); err != nil || ack[0] != 0x20 || ack[3] != 0 {
				t.Fatalf("CONNACK %x, %v", ack, err)
			}
		}
		if _, err := c.Write(append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 1000)...)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes came back", n)
		}
	}
	// A subscriber that never reads, to whom messages of its own topic are sent; and a storm.
	mute := must[net.Conn](t)(g.raw())
	defer mute.Close()
	topic := "$hw/events/device/default/hostile/#"
	subscribe := append([]byte{0x82, byte(5 + len(topic)), 0, 1, 0, byte(len(topic))}, append([]byte(topic), 1)...)
	if _, err := mute.Write(append(connect("mute"), subscribe...)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		var open []net.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close()
			}
		}()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, err := g.raw(); err == nil {
				n++
				open = append(open, c)
			}
			if len(open) > 500 {
				for _, c := range open {
					_ = c.Close()
				}
				open = nil
			}
		}
	}()
	payload := `{"event_id":"` + strings.Repeat("x", 200) + `"}`
	for i := range 20 {
		for range 10 {
			if err := g.pub("app", "-t", "$hw/events/device/default/hostile/twin/get", "-q", "1", "-m", payload); err != nil {
				t.Error(err)
			}
		}
		got, err := g.ask("pump", pump+"twin/update", fmt.Sprintf(`{"event_id":"%d","twin":{"int":{"actual":{"value":"%d"}}}}`, i, i))
		if err != nil || got["event_id"] != strconv.Itoa(i) || got["code"] != nil {
			t.Errorf("during the storm: %v, %v", got, err)
		}
	}
	close(stop)
	n := <-done
	if n < 500 {
		t.Errorf("only %d connections were made", n)
	}
	g.eventually("messages of the one that never reads were dropped, or wait within its bounds", func() error {
		if d := g.figure(`skerry_mqtt_dropped_total{why="inflight"}`) + g.figure(`skerry_mqtt_dropped_total{why="queue"}`); d == 0 {
			return errors.New("nothing was counted")
		}
		return nil
	})
	if refused := g.figure(`skerry_mqtt_refused_total{what="connection"}`); refused == 0 {
		t.Error("no connection was refused")
	}
	after := rss(t, g)
	t.Logf("%d hostile connections; resident %d KB before and %d KB after", n, before, after)
	if after-before > 30<<10 {
		t.Errorf("the agent grew by %d KB", after-before)
	}
}

// rss is what the agent has in memory that is its own: KB.
func rss(t *testing.T, g *gateway) int {
	t.Helper()
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/status", g.proc.PID()))))) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return must[int](t)(strconv.Atoi(strings.Fields(rest)[0]))
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// settled is what the agent holds on to: the least that is resident while scrapes make it allocate, and so collect what the start, and the 4 MiB of
// each hash of a password, have left behind. KB.
func (g *gateway) settled(t *testing.T) int {
	t.Helper()
	least := rss(t, g)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		g.figure("skerry_mqtt_connections")
		least = min(least, rss(t, g))
	}
	return least
}

// clients: what 50 of them cost.
func (g *gateway) clients(t *testing.T) {
	g.restart()
	before := g.settled(t)
	var all []*listener
	for i := range 50 {
		user := []string{"pump", "hostile", "app"}[i%3]
		all = append(all, g.sub(user, "-i", fmt.Sprint("c", i), "-W", "30", "-q", "1", "-t", "$hw/events/device/default/"+map[string]string{"pump": "pump", "hostile": "hostile", "app": "pump"}[user]+"/#"))
	}
	g.eventually("they are connected", func() error {
		if n := g.figure("skerry_mqtt_connections"); n < 50 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	peak := rss(t, g)
	after := g.settled(t)
	if n := g.figure("skerry_mqtt_connections"); n < 50 {
		t.Fatalf("%v connections are left", n)
	}
	t.Logf("50 clients with a subscription each: %d KB before, %d KB as they have come, %d KB after", before, peak, after)
	if grown := after - before; grown > 5<<10 {
		t.Errorf("50 clients take %d KB", grown)
	}
	for _, l := range all {
		l.wait()
	}
}

// restarts: sessions, messages and retained messages survive an orderly restart in the middle of a stream.
func (g *gateway) restarts(t *testing.T) {
	first := g.sub("app", "-i", "keeper", "-c", "-q", "2", "-W", "1", "-t", "plant/line/#")
	first.wait()
	if err := g.pub("app", "-t", "plant/line/retained", "-q", "1", "-r", "-m", "kept"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := g.pub("app", "-t", "plant/line/"+strconv.Itoa(i), "-q", strconv.Itoa(1+i%2), "-m", strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			g.restart()
		}
	}
	g.restart()
	out := g.sub("app", "-i", "keeper", "-c", "-q", "2", "-W", "5", "-v", "-t", "plant/line/#").wait()
	for i := range 20 {
		if line := fmt.Sprintf("plant/line/%d %d\n", i, i); strings.Count(out, line) != 1 {
			t.Errorf("%q comes %d times in:\n%s", line, strings.Count(out, line), out)
		}
	}
	if out := g.sub("app", "-C", "1", "-W", "5", "-t", "plant/line/retained").wait(); out != "kept\n" {
		t.Errorf("retained: %q", out)
	}
	if _, err := os.Stat(filepath.Join(g.dir, "mqtt.sock")); err != nil {
		t.Error(err)
	}
}
