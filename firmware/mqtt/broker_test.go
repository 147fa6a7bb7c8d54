package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what a broker needs, and a broker.
type world struct {
	t       *testing.T
	opt     Options
	broker  *Broker
	host    *fakeHost
	records *fakeRecords
	members *fakeMembers
	stop    func()
}

func newWorld(t *testing.T, change func(*Options)) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "mq") // short: paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var lines []string
	for _, user := range []string{"pump", "app", "other"} {
		line, err := HashPassword(user, user+" secret")
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	passwords := filepath.Join(dir, "passwords")
	if err := os.WriteFile(passwords, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, host: newHost(), records: &fakeRecords{m: make(map[string][]byte)}, members: &fakeMembers{c: make(chan struct{}, 1), list: []string{"default/pump", "default/drive"}}}
	driver := NewDriver()
	w.host.driver = driver
	s, err := driver.Open(t.Context(), device.Config{Device: "default/pump"})
	if err != nil {
		t.Fatal(err)
	}
	w.host.session = s
	t.Cleanup(func() { _ = s.Close() })
	w.opt = Options{
		Node: "gw-1", Passwords: passwords, Limits: DefaultLimits(), Devices: w.host, Members: w.members, Driver: driver, Records: w.records,
		Log:       slog.New(slog.DiscardHandler),
		Listeners: []Listener{{Kind: KindTCP, Address: "127.0.0.1:0"}, {Kind: KindUnix, Address: filepath.Join(dir, "s"), Mode: 0o600}, {Kind: KindWS, Address: "127.0.0.1:0"}},
		Identities: []Identity{
			{Name: "pump", Device: "default/pump"},
			{Name: "app", Publish: []string{"plant/#", "$hw/#"}, Subscribe: []string{"plant/#", "$hw/events/#"}},
			{Name: "other", Publish: []string{"plant/other"}, Subscribe: []string{"plant/other"}},
		},
	}
	w.opt.Limits.MessagesPerSecond = 10000
	if change != nil {
		change(&w.opt)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.broker, err = New(w.opt); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.broker.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.eventually("the listeners are open", func() bool {
		return !slices.ContainsFunc(w.opt.Listeners, func(l Listener) bool { return w.broker.Addr(l.Kind) == nil })
	})
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

// as connects an identity.
func (w *world) as(user string, h hello) *client {
	w.t.Helper()
	h.user, h.password = user, user+" secret"
	if h.id == "" {
		h.id = user
	}
	c, code := dial(w.t, "tcp", w.broker.Addr(KindTCP).String(), h)
	if code != 0 {
		w.t.Fatalf("%s was refused: %d", user, code)
	}
	return c
}

func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	tcp := w.broker.Addr(KindTCP).String()
	for _, h := range []hello{{id: "x"}, {id: "x", user: "pump", password: "wrong"}, {id: "x", user: "nobody", password: "pump secret"}, {id: "x", user: "pump"},
		{id: "inline", user: "pump", password: "pump secret"}, {id: "x", user: "pump", password: "pump secret", will: "plant/x"},
		{id: strings.Repeat("x", 300), user: "pump", password: "pump secret"}} {
		if _, code := dial(t, "tcp", tcp, h); code == 0 {
			t.Errorf("%.60v was let in", fmt.Sprintf("%+v", h))
		}
	}
	if n := w.broker.Stats().RefusedIdentities; n < 6 { // some are refused before that
		t.Errorf("%d refusals were counted", n)
	}
	w.as("pump", hello{})
	w.as("pump", hello{id: "five", v: 5})
	if _, code := dial(t, "unix", w.opt.Listeners[1].Address, hello{id: "u", user: "app", password: "app secret"}); code != 0 {
		t.Errorf("over the socket: %d", code)
	}
	ws, resp, err := websocket.Dial(t.Context(), "ws://"+w.broker.Addr(KindWS).String()+WebSocketPath, &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	c, code := greet(t, websocket.NetConn(t.Context(), ws, websocket.MessageBinary), hello{id: "w", user: "app", password: "app secret"})
	if code != 0 || c.subscribe("plant/#", 0) != 0 {
		t.Errorf("over WebSocket: %d", code)
	}
}

func TestAnonymousIsLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Anonymous = "other" })
	c, code := dial(t, "tcp", w.broker.Addr(KindTCP).String(), hello{id: "x"})
	if code != 0 || c.subscribe("plant/other", 0) != 0 || c.subscribe("plant/#", 0) != 0x80 {
		t.Errorf("code %d", code)
	}
	if source, local := sourceOf(&net.TCPAddr{IP: net.ParseIP("192.0.2.1")}); local || source != "192.0.2.1" {
		t.Errorf("%s is local: %v", source, local)
	}
	if source, local := sourceOf(&net.TCPAddr{IP: net.ParseIP("2001:db8::1")}); local || source != "2001:db8::/64" {
		t.Errorf("%s is local: %v", source, local)
	}
}

func TestSessionBelongsToItsIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	app := w.as("app", hello{id: "shared", keep: true})
	app.subscribe("plant/x", 1)
	if _, code := dial(t, "tcp", w.broker.Addr(KindTCP).String(), hello{id: "shared", user: "other", password: "other secret"}); code == 0 {
		t.Error("another identity took a session over")
	}
	w.restart()
	if _, code := dial(t, "tcp", w.broker.Addr(KindTCP).String(), hello{id: "shared", user: "other", password: "other secret"}); code == 0 {
		t.Error("another identity took a session over after a restart")
	}
	w.as("app", hello{id: "shared", keep: true})
}

func TestTopicsOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	app, other, pump := w.as("app", hello{}), w.as("other", hello{}), w.as("pump", hello{})
	for _, filter := range []string{"#", "plant/#", "plant/+", "$hw/#", "$SYS/#", "$share/g/plant/#", "+/other", "plant/other/#"} {
		if code := other.subscribe(filter, 0); code != 0x80 {
			t.Errorf("%s: %d", filter, code)
		}
	}
	if code := other.subscribe("plant/other", 0); code != 0 {
		t.Fatalf("its own: %d", code)
	}
	if code := app.subscribe("plant/#", 0); code != 0 {
		t.Fatal(code)
	}
	other.publish("plant/app", []byte("forged"), 0, false)
	pump.publish("plant/app", []byte("forged"), 0, false)
	pump.publish("$hw/events/device/default/pump/twin/update/document", []byte("forged"), 0, false)
	other.publish("plant/other", []byte("right"), 1, false)
	if m := app.message(); string(m.Payload) != "right" {
		t.Errorf("got %s on %s", m.Payload, m.TopicName)
	}
	if m := other.message(); string(m.Payload) != "right" {
		t.Errorf("got %s on %s", m.Payload, m.TopicName)
	}
}

// ask publishes a request and returns the answer.
func (c *client) ask(topic, payload string) map[string]any {
	c.t.Helper()
	c.publish(topic, []byte(payload), 0, false)
	for {
		if m := c.message(); m.TopicName == topic+"/result" {
			var out map[string]any
			if err := json.Unmarshal(m.Payload, &out); err != nil {
				c.t.Fatalf("%s: %v", m.Payload, err)
			}
			return out
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	pump, app := w.as("pump", hello{}), w.as("app", hello{})
	const own, drive, node = "$hw/events/device/default/pump/", "$hw/events/device/default/drive/", "$hw/events/node/gw-1/membership/"
	if pump.subscribe(own+"#", 1) != 1 || app.subscribe("$hw/events/#", 1) != 1 {
		t.Fatal("subscriptions were refused")
	}
	for _, tc := range []struct {
		who            *client
		topic, payload string
		want           map[string]any
	}{
		{pump, own + "twin/update", `{"event_id":"1","twin":{"label":{"actual":{"value":"a b = {\"k\":1}"}},"speed":{"actual":{"value":7}},"raw":{"actual":{"value":"AAH/"}}}}`, map[string]any{"event_id": "1"}},
		{pump, own + "twin/update", `{"event_id":"2","twin":{"nope":{"actual":{"value":"1"}}}}`, map[string]any{"event_id": "2", "code": 404.0}},
		{pump, own + "twin/update", `{"twin":{"speed":{"actual":{"value":"fast"}}}}`, map[string]any{"code": 400.0}},
		{pump, own + "twin/update", `nonsense`, map[string]any{"code": 400.0}},
		{pump, own + "state/update", `{"state":"unhealthy"}`, map[string]any{"state": "unhealthy"}},
		{pump, own + "state/update", `{"state":"dancing"}`, map[string]any{"code": 400.0}},
		{pump, own + "state/update", `{"state":"online"}`, map[string]any{"state": "online"}},
		{app, drive + "twin/update", `{"twin":{"speed":{"actual":{"value":"1"}}}}`, map[string]any{"code": 403.0}},
		{app, drive + "state/update", `{"state":"online"}`, map[string]any{"code": 403.0}},
		{app, drive + "twin/update", `{"event_id":"w","twin":{"speed":{"expected":{"value":"42"}}}}`, map[string]any{"event_id": "w"}},
		{app, drive + "twin/update", `{"twin":{"fixed":{"expected":{"value":"42"}}}}`, map[string]any{"code": 403.0}},
		{app, drive + "twin/update", `{"twin":{"broken":{"expected":{"value":"42"}}}}`, map[string]any{"code": 500.0}},
		{app, "$hw/events/device/default/gone/twin/get", ``, map[string]any{"code": 404.0}},
		{app, node + "get", `{"event_id":"m"}`, map[string]any{"event_id": "m"}},
		{app, "$hw/events/node/gw-2/membership/get", ``, map[string]any{"code": 404.0}},
	} {
		got := tc.who.ask(tc.topic, tc.payload)
		for k, v := range tc.want {
			if got[k] != v {
				t.Errorf("%s %s: %v", tc.topic, tc.payload, got)
			}
		}
		if _, refused := got["code"]; refused != (tc.want["code"] != nil) || refused && got["reason"] == "" {
			t.Errorf("%s %s: %v", tc.topic, tc.payload, got)
		}
	}
	values := make([]device.Value, 1)
	if err := w.host.session.Read(t.Context(), []device.Point{&point{property: "label"}}, values); err != nil || values[0].Text() != `a b = {"k":1}` {
		t.Errorf("the session reads %v, %v", values[0], err)
	}
	got := app.ask(drive+"twin/get", `{"event_id":"g"}`)
	speed, _ := got["twin"].(map[string]any)["speed"].(map[string]any)
	if got["event_id"] != "g" || fmt.Sprint(speed["expected"].(map[string]any)["value"]) != "42" || speed["metadata"].(map[string]any)["type"] != "int" {
		t.Errorf("twin/get: %v", got)
	}
	members, _ := app.ask(node+"get", "")["devices"].([]any)
	if len(members) != 2 || members[1].(map[string]any)["id"] != "default/drive" {
		t.Errorf("members: %v", members)
	}
}

// until returns the next message on a topic, decoded.
func (c *client) until(topic string) map[string]any {
	c.t.Helper()
	for {
		if m := c.message(); m.TopicName == topic {
			var out map[string]any
			if err := json.Unmarshal(m.Payload, &out); err != nil {
				c.t.Fatal(err)
			}
			return out
		}
	}
}

func TestWhatTheAgentTells(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	app := w.as("app", hello{})
	app.subscribe("$hw/events/#", 1)
	const drive, own = "$hw/events/device/default/drive/", "$hw/events/device/default/pump/"
	app.publish(drive+"twin/update", []byte(`{"twin":{"away":{"expected":{"value":"5"}}}}`), 0, false)
	if d := app.until(drive + "twin/update/delta"); d["delta"].(map[string]any)["away"] != "5" {
		t.Errorf("delta %v", d)
	}
	w.host.set("speed", "1")
	if d := app.until(drive + "twin/update/document"); d["twin"].(map[string]any)["speed"] == nil {
		t.Errorf("document %v", d)
	}
	w.host.set("speed", "2")
	d := app.until(drive + "twin/update/document")
	speed := d["twin"].(map[string]any)["speed"].(map[string]any)
	if len(d["twin"].(map[string]any)) != 1 || fmt.Sprint(speed["last"].(map[string]any)["actual"].(map[string]any)["value"]) != "1" || fmt.Sprint(speed["current"].(map[string]any)["actual"].(map[string]any)["value"]) != "2" {
		t.Errorf("document %v", d)
	}
	w.members.set("default/pump", "default/new")
	u := app.until("$hw/events/node/gw-1/membership/updated")
	if u["added_devices"].([]any)[0].(map[string]any)["id"] != "default/new" || u["removed_devices"].([]any)[0].(map[string]any)["id"] != "default/drive" {
		t.Errorf("membership %v", u)
	}
	// What the cloud wants of a device that speaks MQTT goes to whoever is subscribed to its deltas.
	if err := w.opt.Driver.push("default/pump", nil, "online"); err != nil {
		t.Fatal(err)
	}
	res := w.host.session.Write(t.Context(), []device.Write{{Point: &point{property: "speed"}, Value: device.Int(9)}})
	if d := app.until(own + "twin/update/delta"); res[0].Err != nil || d["delta"].(map[string]any)["speed"] != "9" {
		t.Errorf("%v, %v", res, d)
	}
	_ = app.conn.Close()
	w.eventually("a delta that nobody hears is not delivered", func() bool {
		return errors.Is(w.host.session.Write(t.Context(), []device.Write{{Point: &point{property: "speed"}, Value: device.Int(9)}})[0].Err, device.ErrUnreachable)
	})
}

func TestWillIsARequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const state = "$hw/events/device/default/pump/state/update"
	app := w.as("app", hello{})
	app.subscribe(state+"/result", 1)
	pump := w.as("pump", hello{will: state})
	_ = pump.conn.Close()
	if got := app.until(state + "/result"); got["state"] != "offline" {
		t.Errorf("%v", got)
	}
}

// fakeHost has a device that speaks MQTT and one that does not.
type fakeHost struct {
	driver  *Driver
	session device.Session

	mu      sync.Mutex
	drive   map[string]*devices.PropertyState
	watcher func(namespace, name, property string, v device.Value)
}

func newHost() *fakeHost {
	h := &fakeHost{drive: make(map[string]*devices.PropertyState)}
	for _, name := range []string{"speed", "fixed", "broken", "away"} {
		h.drive[name] = &devices.PropertyState{Name: name, Type: device.TypeInt, Quality: device.Good, Value: "0", At: time.Unix(1700000000, 0)}
	}
	return h
}

func (h *fakeHost) Device(namespace, name string) (devices.DeviceState, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch namespace + "/" + name {
	case "default/pump":
		return devices.DeviceState{Namespace: namespace, Name: name, Protocol: Protocol, State: "online", Properties: []devices.PropertyState{
			{Name: "speed", Type: device.TypeInt}, {Name: "label", Type: device.TypeString}, {Name: "raw", Type: device.TypeBytes}, {Name: "level", Type: device.TypeDouble},
		}}, true
	case "default/drive":
		st := devices.DeviceState{Namespace: namespace, Name: name, Protocol: "modbus", State: "online"}
		for _, p := range slices.Sorted(maps.Keys(h.drive)) {
			st.Properties = append(st.Properties, *h.drive[p])
		}
		return st, true
	default:
		return devices.DeviceState{}, false
	}
}

func (h *fakeHost) Write(_ context.Context, _, _, property, text string) (device.WriteResult, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch property {
	case "fixed":
		return device.WriteResult{}, fmt.Errorf("property %q: %w: it is read-only", property, devices.ErrRefused)
	case "broken":
		return device.WriteResult{}, errors.New("exception 4")
	case "away":
		return device.WriteResult{}, device.Unreachable("no answer")
	}
	if p := h.drive[property]; p != nil {
		p.Desired, p.Outcome, p.Origin = text, "verified", "edge"
	}
	return device.WriteResult{Verified: true}, nil
}

func (h *fakeHost) Watch(fn func(namespace, name, property string, v device.Value)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watcher = fn
	return func() {}
}

func (h *fakeHost) set(property, value string) {
	h.mu.Lock()
	h.drive[property].Value = value
	fn := h.watcher
	h.mu.Unlock()
	fn("default", "drive", property, device.String(value))
}

type fakeMembers struct {
	c    chan struct{}
	mu   sync.Mutex
	list []string
}

func (m *fakeMembers) C() <-chan struct{} { return m.c }

func (m *fakeMembers) List() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list)
}

func (m *fakeMembers) set(list ...string) {
	m.mu.Lock()
	m.list = list
	m.mu.Unlock()
	m.c <- struct{}{}
}

type fakeRecords struct {
	mu      sync.Mutex
	m       map[string][]byte
	commits int
}

func (r *fakeRecords) Scan(fn func(key string, body []byte) error) error {
	r.mu.Lock()
	all := maps.Clone(r.m)
	r.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if err := fn(key, all[key]); err != nil {
			return err
		}
	}
	return nil
}

func (r *fakeRecords) CommitLazy(records []Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits++
	for _, x := range records {
		if x.Body == nil {
			delete(r.m, x.Key)
		} else {
			r.m[x.Key] = x.Body
		}
	}
	return nil
}

func (r *fakeRecords) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.m)
}
