package mqtt

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

func TestValues(t *testing.T) {
	for _, tc := range []struct {
		json string
		typ  device.Type
		want string // "" is an error
	}{
		{`"7"`, device.TypeInt, "7"}, {`7`, device.TypeInt, "7"}, {`-9223372036854775808`, device.TypeInt, "-9223372036854775808"}, {`"7.5"`, device.TypeInt, ""},
		{`"1.5"`, device.TypeFloat, "1.5"}, {`0.1`, device.TypeFloat, "0.1"}, {`1e300`, device.TypeDouble, "1e+300"}, {`1e300`, device.TypeFloat, ""}, {`"NaN"`, device.TypeDouble, ""},
		{`true`, device.TypeBoolean, "true"}, {`"off"`, device.TypeBoolean, "false"}, {`"maybe"`, device.TypeBoolean, ""},
		{`" a b = c "`, device.TypeString, " a b = c "}, {`"{\"k\": [1, 2]}"`, device.TypeString, `{"k": [1, 2]}`}, {`{"k": [1, 2]}`, device.TypeString, `{"k":[1,2]}`}, {`"k=v;x=y"`, device.TypeString, "k=v;x=y"},
		{`"ü€😀"`, device.TypeString, "ü€😀"},
		{`"AAH/"`, device.TypeBytes, "AAH/"}, {`"?"`, device.TypeBytes, ""}, {`"x"`, device.TypeStream, ""},
	} {
		m, err := decodeTwins([]byte(`{"event_id":"e","twin":{"p":{"actual":{"value":` + tc.json + `}}}}`))
		if err != nil {
			t.Errorf("%s: %v", tc.json, err)
			continue
		}
		v, err := parseValue(m.Twin["p"].Actual, tc.typ)
		if got := v.Text(); (err != nil) != (tc.want == "") || got != tc.want {
			t.Errorf("%s as %s: %q, %v", tc.json, tc.typ, got, err)
		}
	}
}

func TestWrongPayloads(t *testing.T) {
	for payload, want := range map[string]string{
		``: "JSON", `[]`: "JSON", `{`: "JSON", `{"twin":{}}`: "0 properties", `{"twin":{"p":null}}`: "neither", `{"twin":{"p":{}}}`: "neither",
		`{"twin":{"p":{"expected":{}}}}`: "expected.value", `{"twin":{"p":{"actual":{"metadata":{}}}}}`: "actual.value", `{"twin":{"p":{"actual":{"value":null}}}}`: "actual.value",
		`{"event_id":"` + strings.Repeat("x", 300) + `","twin":{"p":{"actual":{"value":1}}}}`: "event_id",
	} {
		if _, err := decodeTwins([]byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", payload, err, want)
		}
	}
	for _, payload := range []string{``, `{"state":"dancing"}`, `{"state":1}`} {
		if _, err := decodeState([]byte(payload)); err == nil {
			t.Errorf("state %q was taken", payload)
		}
	}
}

func FuzzPayloads(f *testing.F) {
	f.Add([]byte(`{"event_id":"1","timestamp":1,"twin":{"p":{"expected":{"value":"1"},"actual":{"value":{"a":[1]},"metadata":{"timestamp":5}}}}}`))
	f.Add([]byte(`{"state":"online"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeTwins(b); err == nil {
			for name, x := range m.Twin {
				for _, v := range []*twinValue{x.Expected, x.Actual} {
					if v == nil {
						continue
					}
					for typ := device.TypeInt; typ <= device.TypeStream; typ++ {
						if _, err := parseValue(v, typ); err == nil && typ == device.TypeStream {
							t.Errorf("%s: a STREAM was read", name)
						}
					}
					v.sourceTime()
				}
			}
			if _, err := json.Marshal(m); err != nil {
				t.Errorf("%s cannot be answered: %v", b, err)
			}
		}
		if m, err := decodeState(b); err == nil {
			if _, ok := states[m.State]; !ok {
				t.Errorf("state %q", m.State)
			}
		}
		if m, err := decodeBase(b); err == nil && len(m.EventID) > maxEventID {
			t.Errorf("event_id of %d bytes", len(m.EventID))
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add(sessionPrefix+hashed("a"), []byte(`{"id":"a","who":"x","v":4,"subs":[{"f":"a/#","q":1}]}`))
	f.Add(retainedPrefix+hashed("a/b"), []byte(`{"t":"a/b","p":"AA==","k":3}`))
	f.Add(messageKey("a", 1), []byte(`{"c":"a","t":"x","id":1,"k":3,"q":1}`))
	f.Fuzz(func(t *testing.T, key string, body []byte) {
		if r, err := decodeSession(key, body); err == nil && (r.ID == "" || key != sessionPrefix+hashed(r.ID)) {
			t.Errorf("%s: %+v", key, r)
		}
		if m, err := decodeMessage(key, body); err == nil {
			msg := m.message(false)
			if pk := msg.ToPacket(); pk.TopicName != m.Topic || pk.PacketID != m.PacketID {
				t.Errorf("%+v became %+v", m, pk)
			}
		}
	})
}
