package mqtt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

// Limits of what a request says.
const (
	maxEventID    = 256
	maxProperties = 512
)

// text is a value. KubeEdge's clients write strings; numbers, booleans and JSON are taken for what they are, and become their own text.
type text string

// UnmarshalJSON takes any JSON value but null.
func (t *text) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(t))
	case string(b) == "null":
		return errors.New("null is not a value")
	}
	var c bytes.Buffer
	if err := json.Compact(&c, b); err != nil {
		return err
	}
	*t = text(c.String())
	return nil
}

// base is in every message.
type base struct {
	EventID   string `json:"event_id"`
	Timestamp int64  `json:"timestamp"` // Unix time in milliseconds
}

func now(eventID string) base { return base{eventID, time.Now().UnixMilli()} }

// twinMessage is a request to change twins, and an answer that shows them.
type twinMessage struct {
	base
	Twin map[string]*msgTwin `json:"twin"`
}

type msgTwin struct {
	Expected *twinValue    `json:"expected,omitempty"`
	Actual   *twinValue    `json:"actual,omitempty"`
	Optional *bool         `json:"optional,omitempty"`
	Metadata *typeMetadata `json:"metadata,omitempty"`
}

type twinValue struct {
	Value    *text          `json:"value"`
	Metadata *valueMetadata `json:"metadata,omitempty"`
}

type valueMetadata struct {
	Timestamp int64  `json:"timestamp,omitempty"`
	Quality   string `json:"quality,omitempty"` // of an actual value that is not good
	Reason    string `json:"reason,omitempty"`
	Outcome   string `json:"outcome,omitempty"` // of an expected value
	Origin    string `json:"origin,omitempty"`  // who expects it: cloud or edge
}

type typeMetadata struct {
	Type string `json:"type,omitempty"`
}

// stateMessage is a request to change a device's state, and its answer.
type stateMessage struct {
	base
	State string `json:"state"`
}

// refusal is the answer to what was refused.
type refusal struct {
	base
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// documentMessage tells how twins have changed.
type documentMessage struct {
	base
	Twin map[string]change `json:"twin"`
}

type change struct {
	Last    *msgTwin `json:"last"`
	Current *msgTwin `json:"current"`
}

// deltaMessage tells which expected values the device does not show.
type deltaMessage struct {
	base
	Twin  map[string]*msgTwin `json:"twin,omitempty"`
	Delta map[string]string   `json:"delta"`
}

// member is a device in the node's membership.
type member struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Namespace  string `json:"namespace"`
	State      string `json:"state,omitempty"`
	LastOnline string `json:"last_online,omitempty"`
}

type membershipMessage struct {
	base
	Devices []member `json:"devices"`
}

type membershipChange struct {
	base
	Added   []member `json:"added_devices"`
	Removed []member `json:"removed_devices"`
}

// decodeBase reads a request that needs nothing but an event_id; an empty payload is one.
func decodeBase(payload []byte) (b base, err error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		return b, nil
	}
	if err := json.Unmarshal(payload, &b); err != nil {
		return base{}, fmt.Errorf("the payload is not a JSON object with event_id: %w", err)
	}
	return b, b.check()
}

func (b base) check() error {
	if len(b.EventID) > maxEventID {
		return fmt.Errorf("event_id has %d bytes; allowed are %d", len(b.EventID), maxEventID)
	}
	return nil
}

// decodeTwins reads a twin/update.
func decodeTwins(payload []byte) (m twinMessage, err error) {
	if err := json.Unmarshal(payload, &m); err != nil {
		return twinMessage{base: m.base}, fmt.Errorf("the payload is not a JSON object with event_id and twin: %w", err)
	}
	if err := m.check(); err != nil {
		return twinMessage{}, err
	}
	if len(m.Twin) == 0 || len(m.Twin) > maxProperties {
		return m, fmt.Errorf("twin: has %d properties; allowed are 1 to %d", len(m.Twin), maxProperties)
	}
	for name, t := range m.Twin {
		switch {
		case t == nil || t.Expected == nil && t.Actual == nil:
			return m, fmt.Errorf("twin.%s: neither expected nor actual is there; properties come from the DeviceModel and cannot be removed here", clip(name))
		case t.Expected != nil && t.Expected.Value == nil:
			return m, fmt.Errorf("twin.%s.expected.value: is missing", clip(name))
		case t.Actual != nil && t.Actual.Value == nil:
			return m, fmt.Errorf("twin.%s.actual.value: is missing", clip(name))
		}
	}
	return m, nil
}

// decodeState reads a state/update.
func decodeState(payload []byte) (m stateMessage, err error) {
	if err := json.Unmarshal(payload, &m); err != nil {
		return stateMessage{base: m.base}, fmt.Errorf("the payload is not a JSON object with event_id and state: %w", err)
	}
	if err := m.check(); err != nil {
		return stateMessage{}, err
	}
	if _, ok := states[m.State]; !ok {
		return m, fmt.Errorf("state: %q is wrong: allowed are online, ok, offline, unhealthy and unknown", clip(m.State))
	}
	return m, nil
}

func clip(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// parseValue reads a value of a property's type. A STRING is what was sent, blanks at its ends included.
func parseValue(t *twinValue, typ device.Type) (device.Value, error) {
	if typ == device.TypeString {
		return device.String(string(*t.Value)), nil
	}
	return device.Parse(string(*t.Value), typ)
}

// sourceTime is when a client says that a value was measured.
func (t *twinValue) sourceTime() time.Time {
	if t.Metadata == nil || t.Metadata.Timestamp <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(t.Metadata.Timestamp)
}

// show is a property as messages have it.
func show(p *devices.PropertyState) *msgTwin {
	optional := false
	t := &msgTwin{Optional: &optional, Metadata: &typeMetadata{lower(p.Type.String())}}
	if p.Value != "" || !p.At.IsZero() {
		v := text(p.Value)
		t.Actual = &twinValue{&v, &valueMetadata{Timestamp: millis(p.At)}}
		if p.Quality != device.Good {
			t.Actual.Metadata.Quality, t.Actual.Metadata.Reason = p.Quality.String(), p.Reason
		}
	}
	if p.Desired != "" {
		v := text(p.Desired)
		t.Expected = &twinValue{&v, &valueMetadata{Outcome: p.Outcome, Origin: p.Origin}}
	}
	return t
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
