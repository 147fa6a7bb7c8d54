package config

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/relay/enroll"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := Parse([]string{"--name", "r"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name = "r"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if _, err := Parse([]string{"--name", "r", "--config", write(t, "")}, io.Discard); err != nil {
		t.Errorf("an empty file is refused: %v", err)
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	path := write(t, "name: a\nlisten: 127.0.0.1:1\nadvertise: [x.example.org]\nlease: {duration: 60s}\ndevices: {writeInterval: 20ms}\n")
	c, err := Parse([]string{"--config", path, "--listen", "127.0.0.1:2", "--advertise", "10.0.0.1,b", "--advertise", "::1", "--log-level=debug", "--address", "[2001:db8::7]:7443"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "a" || c.Listen != "127.0.0.1:2" || !reflect.DeepEqual(c.Advertise, []string{"10.0.0.1", "b", "::1"}) ||
		c.Lease.Duration != time.Minute || c.Lease.Interval != 10*time.Second || c.Devices.WriteInterval != 20*time.Millisecond || c.Log.Level != "debug" || c.Address != "[2001:db8::7]:7443" {
		t.Errorf("got %+v", c)
	}
}

func TestEverythingWrongIsListed(t *testing.T) {
	path := write(t, `name: "a b"
listen: nowhere
metricsAddress: 127.0.0.1:x
address: ":7443"
advertise: ["https://x"]
log: {level: loud, format: xml}
api: {qps: 0, burst: 0, writers: 0}
devices: {writeInterval: 0s}
lease: {duration: 1500ms, interval: 9h}
enroll: {certificateLifetime: 1s}
limits: {bytesPerSecond: 1, messagesPerSecond: -1, reportsPerSecond: 49, writesPerSecond: 19, sessionsPerMinute: 1, streams: 0, streamsPerSecond: -1, objects: 0, connecting: 1, ackPatience: 1ms}
drain: {period: -1s}
autonomy: {duration: -1s}
memory: {gcPercent: 0}
`)
	_, err := Parse([]string{"--config", path}, io.Discard)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"name", "listen", "metricsAddress", "address", "advertise", "log.level", "log.format", "api.qps", "api.burst", "api.writers",
		"devices.writeInterval", "lease.duration", "lease.interval", "enroll.certificateLifetime",
		"limits.bytesPerSecond", "limits.messagesPerSecond", "limits.reportsPerSecond", "limits.writesPerSecond", "limits.sessionsPerMinute", "limits.streams", "limits.streamsPerSecond", "limits.objects", "limits.connecting", "limits.ackPatience",
		"autonomy.duration", "drain.period", "memory.gcPercent"} {
		if !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("%s is not mentioned in:\n%v", key, err)
		}
	}
}

func TestStrict(t *testing.T) {
	for text, want := range map[string]string{
		"lisen: 127.0.0.1:1":       "lisen",
		"listen: [1]":              "line 1",
		"name: a\n---\nname: b":    "more than one",
		"lease: {duration: often}": "often",
	} {
		if _, err := Parse([]string{"--config", write(t, text)}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
	if _, err := Parse([]string{"--config", "/does/not/exist"}, io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Parse([]string{"serve"}, io.Discard); err == nil {
		t.Error("an argument was accepted")
	}
	if _, err := Parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	if _, err := Parse([]string{"--version"}, io.Discard); !errors.Is(err, ErrVersion) {
		t.Errorf("--version: %v", err)
	}
	if _, err := Parse([]string{"--name", "r", "--listen", "127.0.0.1:1", "--metrics-address", "127.0.0.1:1"}, io.Discard); err == nil {
		t.Error("one address for both was accepted")
	}
}

// TestLongestLifetime: revocations are forgotten after a time that follows from it.
func TestLongestLifetime(t *testing.T) {
	if maxLifetime != enroll.MaxLifetime {
		t.Errorf("the longest life of a certificate is %v here, %v in relay/enroll", maxLifetime, enroll.MaxLifetime)
	}
	for text, ok := range map[string]bool{"8760h": true, "8761h": false, "87600h": false} {
		_, err := Parse([]string{"--name", "r", "--config", write(t, "enroll: {certificateLifetime: "+text+"}")}, io.Discard)
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestReferenceNamesEveryKey holds docs/relay.md to the keys that exist.
func TestReferenceNamesEveryKey(t *testing.T) {
	doc, err := os.ReadFile("../../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key := prefix + f.Tag.Get("yaml")
			if f.Type.Kind() == reflect.Struct {
				walk(key+".", f.Type)
			} else if !strings.Contains(string(doc), "| `"+key+"` |") {
				t.Errorf("docs/relay.md does not describe %s", key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}
