package push

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/history"
)

type object1 = map[string]any

func influx(url string, data object1) object1 {
	return object1{"dbMethod": object1{"influxdb2": object1{"influxdb2ClientConfig": object1{"url": url, "org": "o 1", "bucket": "b"}, "influxdb2DataConfig": data}}}
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		in            object1
		kind, address string
		path          string
		timeout       time.Duration
	}{
		"http":            {object1{"http": object1{"hostName": "http://10.0.0.1", "port": int64(8080), "requestPath": "/in?x=1", "timeout": uint64(500)}}, "http", "http://10.0.0.1:8080", "/in?x=1", 500 * time.Millisecond},
		"http, no port":   {object1{"http": object1{"hostName": "https://Historian.example"}}, "http", "https://historian.example:443", "/", defaultTimeout},
		"influx":          {influx("http://influx:8086/sub/", nil), "influxdb2", "http://influx:8086", "/sub/api/v2/write?bucket=b&org=o+1&precision=ns", defaultTimeout},
		"otel":            {object1{"otel": object1{"endpointURL": "https://[::1]:4318/v1/metrics"}}, "otel", "https://[::1]:4318", "/v1/metrics", defaultTimeout},
		"otel, no path":   {object1{"otel": object1{"endpointURL": "http://c"}}, "otel", "http://c:4318", "/v1/metrics", defaultTimeout},
		"tdengine":        {object1{"dbMethod": object1{"TDEngine": object1{"TDEngineClientConfig": object1{"addr": "127.0.0.1:6041", "dbName": "plant"}}}}, "TDEngine", "http://127.0.0.1:6041", "/influxdb/v1/write?db=plant&precision=ns", defaultTimeout},
		"mqtt":            {object1{"mqtt": object1{"address": "tcp://127.0.0.1:1884", "topic": "a/b", "qos": int64(1), "retained": true}}, "mqtt", "tcp://127.0.0.1:1884", "", defaultTimeout},
		"mqtt, no scheme": {object1{"mqtt": object1{"address": "broker"}}, "mqtt", "tcp://broker:1883", "", defaultTimeout},
		"redis":           {object1{"dbMethod": object1{"redis": object1{"redisClientConfig": object1{"addr": "127.0.0.1:6379", "db": int64(3), "poolsize": int64(30), "minIdleConns": int64(30)}}}}, "redis", "redis://127.0.0.1:6379", "", defaultTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse("p", c.in)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			e := got[0].endpoint
			if e.kind != c.kind || e.address != c.address || e.path != c.path || e.timeout != c.timeout {
				t.Errorf("%+v", e)
			}
			if n := e.name(); len(n) > 100 || !strings.HasPrefix(n, "push:"+c.kind+":") {
				t.Errorf("its name is %q", n)
			}
		})
	}
}

// TestParseRefuses: by name, value and what is allowed.
func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   object1
		want string
	}{
		"nothing":              {object1{}, "p: names no target; allowed: dbMethod.TDEngine, dbMethod.influxdb2, dbMethod.redis, http, mqtt, otel"},
		"unknown":              {object1{"kafka": object1{}}, "p.kafka: is not supported; allowed: dbMethod.TDEngine,"},
		"mysql":                {object1{"dbMethod": object1{"mysql": object1{}}}, "p.dbMethod.mysql: is not supported; allowed: "},
		"no object":            {object1{"http": "x"}, `p.http: "x": is not an object`},
		"no host":              {object1{"http": object1{}}, "p.http.hostName: is missing; allowed: a scheme and a host"},
		"scheme":               {object1{"http": object1{"hostName": "ftp://x"}}, `p.http.hostName: "ftp://x": has a scheme that is not known here; allowed: http://HOST:PORT, https://HOST:PORT`},
		"password":             {object1{"http": object1{"hostName": "http://u:p@x"}}, `holds a user: credentials are not for manifests`},
		"two ports":            {object1{"http": object1{"hostName": "http://x:1", "port": int64(2)}}, `has a port, and the field port has one, too`},
		"port":                 {object1{"http": object1{"hostName": "http://x", "port": int64(70000)}}, `p.http.port: 70000: is out of range; allowed: a whole number from 0 to 65535`},
		"path":                 {object1{"http": object1{"hostName": "http://x", "requestPath": "in"}}, `p.http.requestPath: "in": does not begin with /; allowed: /PATH`},
		"field":                {object1{"http": object1{"hostName": "http://x", "path": "/"}}, `p.http.path: unknown field; allowed: hostName, port, requestPath, timeout`},
		"line break":           {object1{"mqtt": object1{"address": "tcp://x", "topic": "a\nb"}}, `p.mqtt.topic: "a\nb": holds a line break`},
		"wildcard":             {object1{"mqtt": object1{"address": "tcp://x", "topic": "a/#"}}, `p.mqtt.topic: "a/#": has a wildcard`},
		"qos":                  {object1{"mqtt": object1{"address": "tcp://x", "qos": int64(2)}}, `p.mqtt.qos: 2: is not supported; allowed: 0, 1`},
		"no bucket":            {object1{"dbMethod": object1{"influxdb2": object1{"influxdb2ClientConfig": object1{"url": "http://x", "org": "o"}}}}, `p.dbMethod.influxdb2.influxdb2ClientConfig.bucket: is missing`},
		"measurement":          {influx("http://x", object1{"measurement": "#x"}), `p.dbMethod.influxdb2.influxdb2DataConfig.measurement: "#x": begins with #`},
		"tag":                  {influx("http://x", object1{"tag": object1{"unit": ""}}), `p.dbMethod.influxdb2.influxdb2DataConfig.tag: "unit": is no tag`},
		"tdengine's url":       {object1{"dbMethod": object1{"TDEngine": object1{"TDEngineClientConfig": object1{"addr": "x:1/y", "dbName": "d"}}}}, `"http://x:1/y": has a path`},
		"redis's db":           {object1{"dbMethod": object1{"redis": object1{"redisClientConfig": object1{"addr": "x", "db": int64(-1)}}}}, `redisClientConfig.db: -1: is out of range; allowed: a whole number from 0 to 65536`},
		"anomalyDetection too": {object1{"anomalyDetection": object1{"a": 1}}, "p.anomalyDetection: is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse("p", c.in); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestWhatIsRightCounts(t *testing.T) {
	got, err := parse("p", object1{"http": object1{"hostName": "http://x"}, "mqtt": object1{"address": "bad scheme://"}})
	if err == nil || len(got) != 1 || got[0].kind != "http" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("http://x:1/y?z", "/p")
	f.Add("tcp://[::1]", "a/b")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, m := range []object1{
			{"http": object1{"hostName": a, "requestPath": b}}, {"mqtt": object1{"address": a, "topic": b}}, {"otel": object1{"endpointURL": a}}, influx(a, object1{"measurement": b, "tag": object1{b: a}}),
			{"dbMethod": object1{"TDEngine": object1{"TDEngineClientConfig": object1{"addr": a, "dbName": b}}}}, {"dbMethod": object1{"redis": object1{"redisClientConfig": object1{"addr": a}}}},
		} {
			targets, err := parse("p", m)
			for _, x := range targets {
				if err == nil && (len(x.name()) > 100 || strings.ContainsAny(x.address+x.path, "\r\n \x00")) {
					t.Errorf("%q: %+v", m, x)
				}
				it := item{history.Entry{Device: a, Namespace: b, Property: a}, x.opt}
				if line := string(appendLine(nil, &it)); strings.Count(line, "\n") != 1 {
					t.Errorf("%q makes %q", m, line)
				}
			}
		}
	})
}

func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "push.yaml")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := findCredential(file, "http://x:1"); err != nil || c.Token != "" {
		t.Errorf("no file: %+v, %v", c, err)
	}
	const good = "targets:\n- address: http://x:1\n  token: secret\n  headers: {X-Plant: a}\n"
	write(good, 0o600)
	if c, err := findCredential(file, "http://x:1"); err != nil || c.Token != "secret" || c.Headers["X-Plant"] != "a" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := findCredential(file, "https://x:1"); err != nil || c.Token != "" {
		t.Errorf("credentials go to another address: %+v, %v", c, err)
	}
	for want, text := range map[string]string{
		"SCHEME://HOST:PORT":          "targets: [{address: 'http://x'}]",
		"field passwd not found":      "targets: [{address: 'http://x:1', passwd: p}]",
		"certificate and key go toge": "targets: [{address: 'http://x:1', certificate: c}]",
	} {
		write(text, 0o600)
		if _, err := findCredential(file, "http://x:1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	write(good, 0o644)
	if _, err := findCredential(file, "http://x:1"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte("targets: [{address: 'http://x:1', token: t}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseCredentials(b)
		for _, c := range all {
			if err == nil && !strings.Contains(c.Address, "://") {
				t.Errorf("%+v", c)
			}
		}
	})
}
