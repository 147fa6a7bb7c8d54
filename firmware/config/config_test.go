package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const least = "node: {name: gw-1}\nrelay: {addresses: ['relay.example.org:7443']}\n"

func TestLeastConfiguration(t *testing.T) {
	c, err := Parse([]byte(least))
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Node.Name = "gw-1"
	want.Relay.Addresses = []string{"relay.example.org:7443"}
	want.IdentityDir = "/var/lib/skerry/identity"
	want.Pods.RootDir = "/var/lib/skerry/pods"
	want.Control.Socket = "/run/skerry/control.sock"
	want.DMI.Socket = "/run/skerry/dmi.sock"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if !reflect.DeepEqual(again, c) {
		t.Errorf("what `skerryd config` prints is read back as something else:\n%s", text)
	}
}

func TestWrongConfiguration(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string // all in the error
	}{
		{"", []string{"relay.addresses", "at least one"}},
		{least + "nodename: x\n", []string{"nodename", "line 3"}},
		{"node: {name: GW_1}\nrelay: {addresses: [r:1]}\n", []string{"node.name", `"GW_1"`, "lower-case"}},
		{"relay: {addresses: ['r:1'], proxy: 'https://u:geheim@p:1'}\n", []string{"relay.proxy", "another scheme"}},
		{"relay: {addresses: ['r:1'], proxy: 'http://u:geheim@p'}\n", []string{"relay.proxy", "host or a port"}},
		{"relay: {addresses: ['https://r:1/x', 'r', ':7443', 'r:0', 'r:70000']}\n",
			[]string{"addresses[0]", "addresses[1]", `"r"`, "addresses[2]", "host is missing", "addresses[3]", "addresses[4]", "1 to 65535"}},
		{least + "memory: {limit: 1Mi}\n", []string{"memory.limit", `"1Mi"`, "24Mi"}},
		{least + "memory: {limit: lots}\n", []string{"lots", "64Mi", "line 3"}},
		{least + "memory: {limit: 9999999999Gi}\n", []string{"9999999999Gi"}},
		{least + "store: {window: 2h}\n", []string{"store.window", "2h0m0s", "1m0s"}},
		{least + "dmi: {enabled: true, socket: dmi.sock, maxDevices: 0, maxReports: -1, maxMessage: 1Ki, callTimeout: 1ms}\ndevices: {enabled: false}\n",
			[]string{"dmi.socket", "/etc/kubeedge/dmi.sock", "dmi.enabled", "devices.enabled", "dmi.maxDevices", "1 to 10000", "dmi.maxReports", "dmi.maxMessage", `"1Ki"`, "dmi.callTimeout", "100ms"}},
		{least + "dmi: {socket: /run/skerry/control.sock}\n", []string{"dmi.socket", "another one"}},
		{least + "dmi: {uids: [root]}\n", []string{"root", "line 3"}},
		{least + "log: {level: loud}\n", []string{"loud"}},
		{least + "mqtt: {enabled: true, listeners: {tcp: '', tls: 'x', socket: rel, socketMode: '999'}}\n", []string{"mqtt.listeners.tls", `"x"`, "mqtt.listeners.socket", "mqtt.listeners.socketMode", "mqtt.tls.certFile"}},
		{least + "mqtt: {enabled: true, listeners: {tcp: ''}}\n", []string{"mqtt.listeners", "one listener"}},
		{least + "mqtt: {anonymous: nobody, passwordFile: p, identities: [{name: 'a b'}, {name: a, device: pump, publish: ['a/#/b']}, {name: a}]}\n",
			[]string{"mqtt.anonymous", "mqtt.passwordFile", "mqtt.identities[0].name", "mqtt.identities[1].device", "NAMESPACE/NAME", "mqtt.identities[1].publish[0]", "mqtt.identities[2].name"}},
		{least + "mqtt: {limits: {payload: 1, connections: 0, queueBytes: 0, keepAlive: 1s, sessionExpiry: 1s, flashRate: 1}}\n",
			[]string{"mqtt.limits.payload", "mqtt.limits.connections", "1 to 10000", "mqtt.limits.keepAlive", "mqtt.limits.sessionExpiry", "mqtt.limits.flashRate"}},
		{least + "log: {format: xml}\n", []string{"log.format", "xml", "json"}},
		{least + "runtime: {endpoint: /run/x.sock}\n", []string{"runtime.endpoint", "unix://"}},
		{least + "dataDir: data\n", []string{"dataDir", "absolute"}},
		{least + "socket: /" + strings.Repeat("x", 120) + "\n", []string{"socket", "107"}},
		{least + "pods: {max: 0}\n", []string{"pods.max", "1 to 1000"}},
		{least + "pods: {userNamespaces: {firstID: 1000, count: 65536}}\n", []string{"pods.userNamespaces", "multiple of 65536"}},
		{least + "pods: {userNamespaces: {firstID: 65536}}\n", []string{"pods.userNamespaces", "0 ids"}},
		{least + "---\nnode: {name: b}\n", []string{"more than one"}},
		{"node: {name: a, labels: {'x y': 'z', ok: 'no way'}, taints: ['a=b', 'a:Never', '/:NoSchedule']}\nrelay: {addresses: ['r:1']}\n",
			[]string{"node.labels", `"x y"`, "node.labels.ok", `"no way"`, "node.taints[0]", "KEY:EFFECT", "node.taints[1]", `"Never"`, "node.taints[2]"}},
		{"node: {name: a, reserved: {gpu: '1', memory: lots}, eviction: {hard: {disk: 5%}, soft: {memory.available: 10%}}}\nrelay: {addresses: ['r:1']}\n",
			[]string{"node.reserved", `"gpu"`, "node.reserved.memory", "hard.disk", "memory.available", "soft.memory.available", "softGracePeriod"}},
		{"node: {name: a, shutdown: {gracePeriod: 5s, gracePeriodCriticalPods: 10s}}\nrelay: {addresses: ['r:1']}\n", []string{"node.shutdown.gracePeriodCriticalPods", "0s to 5s"}},
		{least + "pods: {clusterDNS: [dns, 10.96.0.10], resolvConf: x, network: {cidrs: [10.1.2.3/24], mtu: 5, dir: net.d}}\n",
			[]string{"pods.clusterDNS[0]", `"dns"`, "10.96.0.10", "pods.resolvConf", "pods.network.cidrs", "10.1.2.0/24 is meant", "pods.network.mtu", `"5"`, "576", "pods.network.dir", "/etc/cni/net.d"}},
		{least + "pods: {max: 100, clusterDNS: [10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4], network: {cidrs: [10.1.2.0/26]}}\n",
			[]string{"pods.clusterDNS", "at most 3", "pods.network.cidrs", "room for 61 pods", "pods.max"}},
		{least + "pods: {network: {cidrs: [10.1.2.0/24, 10.1.3.0/24]}}\n", []string{"pods.network.cidrs", "at most one range of IPv4"}},
		{least + "pods: {network: {cidrs: [everything]}}\n", []string{"pods.network.cidrs", `"everything"`, "10.20.3.0/24"}},
		{"pods: {staticDir: pods}\nrelay: {addresses: ['r:1']}\n", []string{"pods.staticDir", "absolute"}},
	} {
		_, err := Parse([]byte(tc.text))
		if err == nil {
			t.Errorf("accepted:\n%s", tc.text)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("the error does not say %q: %v", w, err)
			}
		}
		if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error tells the proxy's password: %v", err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "relay.addresses") {
		t.Errorf("missing file: %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(least+"# "+strings.Repeat("x", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("huge file: %v", err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(good); err != nil || c.Node.Name != "gw-1" {
		t.Errorf("good file: %+v, %v", c, err)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{"64Mi": 64 << 20, "64MiB": 64 << 20, "1Gi": 1 << 30, "25165824": 24 << 20, "100000000": 100000000} {
		c, err := Parse([]byte(least + "memory: {limit: " + text + "}\n"))
		if err != nil || c.Memory.Limit != (Limit{true, want}) {
			t.Errorf("%s: %+v, %v; want %d", text, c.Memory.Limit, err, want)
		}
	}
	if c, err := Parse([]byte(least + "memory: {limit: board}\n")); err != nil || c.Memory.Limit.Given {
		t.Errorf("%+v, %v", c.Memory, err)
	}
}

// TestReference holds docs/configuration.md to the code: every key is there with its default, and no other.
func TestReference(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(line, "|")
		if len(cells) >= 4 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			documented[strings.Trim(strings.TrimSpace(cells[1]), "`")] = strings.Trim(strings.TrimSpace(cells[2]), "`")
		}
	}
	derived := map[string]string{"node.name": "the host name", "identityDir": "*dataDir*/identity", "control.socket": "control.sock beside *socket*", "dmi.socket": "dmi.sock beside *socket*", "pods.rootDir": "*dataDir*/pods", "relay.addresses": "none, required", "relay.proxy": "empty: none",
		"pods.resolvConf": "empty", "update.window": "empty", "update.caFile": "empty", "board.name": "empty: recognised", "watchdog.device": "empty: the board's", "pods.network.dir": "empty",
		"mqtt.listeners.tls": "empty", "mqtt.listeners.websocket": "empty", "mqtt.listeners.websocketTLS": "empty", "mqtt.listeners.socket": "empty",
		"mqtt.tls.certFile": "empty", "mqtt.tls.keyFile": "empty", "mqtt.tls.clientCAFile": "empty", "mqtt.passwordFile": "empty", "mqtt.anonymous": "empty",
		"node.labels": "none", "node.taints": "none", "node.reserved": "none", "node.eviction.soft": "none", "node.eviction.softGracePeriod": "none", "node.eviction.minimumReclaim": "none",
		"node.eviction.hard":                     "{memory.available: 5%, nodefs.available: 10%, nodefs.inodesFree: 5%, imagefs.available: 10%, imagefs.inodesFree: 5%, pid.available: 10%}",
		"node.eviction.pressureTransitionPeriod": "5m"}
	seen := 0
	walk(reflect.ValueOf(Defaults()), "", func(key, value string) {
		seen++
		if d, ok := derived[key]; ok {
			value = d
		}
		got, ok := documented[key]
		if !ok {
			t.Errorf("docs/configuration.md does not document %s", key)
		} else if got != value {
			t.Errorf("docs/configuration.md: the default of %s is %q, in the code it is %q", key, got, value)
		}
		delete(documented, key)
	})
	for key := range documented {
		t.Errorf("docs/configuration.md documents %s, which does not exist", key)
	}
	if seen < 15 {
		t.Errorf("only %d keys found by reflection", seen)
	}
}

func walk(v reflect.Value, prefix string, visit func(key, value string)) {
	for i := range v.NumField() {
		key := prefix + strings.TrimSuffix(v.Type().Field(i).Tag.Get("yaml"), ",omitempty")
		f := v.Field(i)
		switch x := f.Interface().(type) {
		case time.Duration:
			visit(key, x.String())
			continue
		case Bytes:
			visit(key, x.String())
			continue
		case fmt.Stringer:
			visit(key, strings.ToLower(x.String()))
			continue
		}
		if f.Kind() == reflect.Struct {
			walk(f, key+".", visit)
		} else {
			visit(key, fmt.Sprint(f.Interface()))
		}
	}
}

// TestNodeKeys: what is set of the thresholds changes those alone.
func TestNodeKeys(t *testing.T) {
	c, err := Parse([]byte("node: {name: a, taints: ['site=north:NoExecute'], eviction: {hard: {memory.available: 10Mi}, soft: {memory.available: 10%}, softGracePeriod: {memory.available: 90s}}}\nrelay: {addresses: ['r:1']}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if h := c.Node.Eviction.Hard; h["memory.available"] != "10Mi" || h["nodefs.available"] != "10%" || len(h) != 6 {
		t.Errorf("hard %v", h)
	}
	rules, err := c.Node.Eviction.Rules().Parse()
	if err != nil || len(rules) != 7 {
		t.Errorf("rules %v: %v", rules, err)
	}
	if taint, err := ParseTaint(c.Node.Taints[0]); err != nil || taint.Key != "site" || taint.Value != "north" || taint.Effect != "NoExecute" {
		t.Errorf("taint %+v: %v", taint, err)
	}
	if taint, err := ParseTaint("example.org/x:NoSchedule"); err != nil || taint.Key != "example.org/x" || taint.Value != "" {
		t.Errorf("taint %+v: %v", taint, err)
	}
}

func FuzzParseTaint(f *testing.F) {
	for _, s := range []string{"a=b:NoSchedule", "a:NoExecute", "", ":", "=:", "x/y=:NoSchedule"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if taint, err := ParseTaint(s); err == nil && (taint.Key == "" || taint.Effect == "") {
			t.Errorf("%q: %+v", s, taint)
		}
	})
}
