package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

// Devices are the node's devices; *devices.Host implements it.
type Devices interface {
	Device(namespace, name string) (devices.DeviceState, bool)
	Write(ctx context.Context, namespace, name, property, text string) (device.WriteResult, error)
	Watch(fn func(namespace, name, property string, v device.Value)) (stop func())
}

// Members are the devices that this node should run.
type Members interface {
	// List returns NAMESPACE/NAME of each.
	List() []string
	// C is signalled after a change.
	C() <-chan struct{}
}

// writeWithin is how long the outcome of an expected value is waited for. It stands after that, too.
const writeWithin = 15 * time.Second

// The codes of refusals are those of HTTP.
const (
	codeBad         = 400
	codeForbidden   = 403
	codeNotFound    = 404
	codeBusy        = 429
	codeFailed      = 500
	codeUnavailable = 503
)

var suffixes = map[requestKind]string{twinUpdate: "twin/update", twinGet: "twin/get", stateUpdate: "state/update"}

// request answers what was published on the topic of a request, in the order of requests for the same device. It does not block.
func (b *Broker) request(ctx context.Context, topic string, payload []byte) {
	r, ok := parseRequest(topic)
	if !ok {
		return
	}
	b.stats.requests.Add(1)
	payload = slices.Clone(payload)
	if !b.queues.put(r.namespace+"/"+r.name, func(fn func()) { b.running.Go(fn) }, func() { b.answer(ctx, r, payload) }) {
		m, _ := decodeBase(payload) // for its event_id, if there is one
		b.refuse(r, m.EventID, codeBusy, fmt.Errorf("more than %d requests for the device, or %d in all, wait: try again", maxWaiting, maxRequested))
	}
}

func (b *Broker) answer(ctx context.Context, r request, payload []byte) {
	if r.kind == membershipGet {
		b.answerMembership(r, payload)
		return
	}
	st, ok := b.opt.Devices.Device(r.namespace, r.name)
	if !ok {
		m, _ := decodeBase(payload)
		b.refuse(r, m.EventID, codeNotFound, fmt.Errorf("device %s on this gateway: not found", r.device()))
		return
	}
	switch r.kind {
	case twinGet:
		m, err := decodeBase(payload)
		if err != nil {
			b.refuse(r, m.EventID, codeBad, err)
			return
		}
		b.reply(r, twinMessage{now(m.EventID), shown(&st)})
	case stateUpdate:
		b.updateState(r, &st, payload)
	case twinUpdate:
		b.updateTwins(ctx, r, &st, payload)
	case membershipGet:
	}
}

func shown(st *devices.DeviceState) map[string]*msgTwin {
	out := make(map[string]*msgTwin, len(st.Properties))
	for i := range st.Properties {
		out[st.Properties[i].Name] = show(&st.Properties[i])
	}
	return out
}

// ownWords refuses what only the device itself, speaking MQTT, can say.
func ownWords(st *devices.DeviceState) error {
	switch st.Protocol {
	case Protocol:
		return nil
	case "":
		return fmt.Errorf("the device has no driver: %s: %s", st.Reason, st.Message)
	default:
		return fmt.Errorf("actual values and the state of this device come from its %s driver: only devices whose protocolName is %s say them here", st.Protocol, Protocol)
	}
}

func (b *Broker) updateState(r request, st *devices.DeviceState, payload []byte) {
	m, err := decodeState(payload)
	if err != nil {
		b.refuse(r, m.EventID, codeBad, err)
		return
	}
	if err := ownWords(st); err != nil {
		b.refuse(r, m.EventID, codeForbidden, err)
		return
	}
	if err := b.opt.Driver.push(r.device(), nil, m.State); err != nil {
		b.refuse(r, m.EventID, codeUnavailable, err)
		return
	}
	b.reply(r, stateMessage{now(m.EventID), m.State})
}

// updateTwins takes actual and expected values. What can be judged is judged before anything is taken.
func (b *Broker) updateTwins(ctx context.Context, r request, st *devices.DeviceState, payload []byte) {
	m, err := decodeTwins(payload)
	if err != nil {
		b.refuse(r, m.EventID, codeBad, err)
		return
	}
	actual, code, err := judge(&m, st)
	if err != nil {
		b.refuse(r, m.EventID, code, err)
		return
	}
	if len(actual) > 0 {
		if err := b.opt.Driver.push(r.device(), actual, ""); err != nil {
			b.refuse(r, m.EventID, codeUnavailable, err)
			return
		}
	}
	code, err = b.expect(ctx, r, &m, st)
	if err != nil {
		b.refuse(r, m.EventID, code, err)
		return
	}
	for name, t := range m.Twin {
		if i := slices.IndexFunc(st.Properties, func(p devices.PropertyState) bool { return p.Name == name }); i >= 0 {
			t.Metadata = &typeMetadata{lower(st.Properties[i].Type.String())}
		}
	}
	b.reply(r, twinMessage{now(m.EventID), m.Twin})
}

// judge checks properties and types, and returns the actual values.
func judge(m *twinMessage, st *devices.DeviceState) (map[string]device.Value, int, error) {
	types := make(map[string]device.Type, len(st.Properties))
	for i := range st.Properties {
		types[st.Properties[i].Name] = st.Properties[i].Type
	}
	actual := make(map[string]device.Value)
	received := time.Now()
	for _, name := range slices.Sorted(maps.Keys(m.Twin)) {
		t := m.Twin[name]
		typ, ok := types[name]
		if !ok {
			return nil, codeNotFound, fmt.Errorf("property %s of device %s/%s: not found; it has: %s", clip(name), st.Namespace, st.Name, several(types))
		}
		for _, v := range []*twinValue{t.Expected, t.Actual} {
			if v == nil {
				continue
			}
			parsed, err := parseValue(v, typ)
			if err != nil {
				return nil, codeBad, fmt.Errorf("twin.%s: %w", clip(name), err)
			}
			if v == t.Actual {
				if err := ownWords(st); err != nil {
					return nil, codeForbidden, err
				}
				parsed.Server, parsed.Source = received, v.sourceTime()
				actual[name] = parsed
			}
		}
	}
	return actual, 0, nil
}

func several(types map[string]device.Type) string {
	names := slices.Sorted(maps.Keys(types))
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + fmt.Sprintf(", … and %d more", len(names)-20)
	}
	return strings.Join(names, ", ")
}

// expect writes the expected values. One that does not reach its device stands, and is told as a delta.
func (b *Broker) expect(ctx context.Context, r request, m *twinMessage, st *devices.DeviceState) (code int, err error) {
	delta := make(map[string]string)
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(m.Twin)) {
		t := m.Twin[name]
		if t.Expected == nil {
			continue
		}
		value := string(*t.Expected.Value)
		writeCtx, cancel := context.WithTimeout(ctx, writeWithin)
		_, err := b.opt.Devices.Write(writeCtx, r.namespace, r.name, name, value)
		cancel()
		switch {
		case err == nil:
		case errors.Is(err, device.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
			delta[name] = value
		default:
			if code == 0 {
				code = codeOf(err)
			}
			failed = append(failed, err)
		}
	}
	if len(delta) > 0 && st.Protocol != Protocol { // of those that speak MQTT the driver tells
		b.publish(deviceTopic(r.namespace, r.name, "twin/update/delta"), deltaMessage{base: now(m.EventID), Delta: delta})
	}
	return code, errors.Join(failed...)
}

func codeOf(err error) int {
	switch {
	case errors.Is(err, devices.ErrNotFound):
		return codeNotFound
	case errors.Is(err, devices.ErrRefused):
		return codeForbidden
	case errors.Is(err, context.Canceled):
		return codeUnavailable
	default:
		return codeFailed
	}
}

func (b *Broker) answerMembership(r request, payload []byte) {
	m, err := decodeBase(payload)
	switch {
	case err != nil:
		b.refuse(r, m.EventID, codeBad, err)
	case r.name != b.opt.Node:
		b.refuse(r, m.EventID, codeNotFound, fmt.Errorf("this is node %s", b.opt.Node))
	default:
		b.reply(r, membershipMessage{now(m.EventID), b.members(b.opt.Members.List())})
	}
}

// members describes devices.
func (b *Broker) members(names []string) []member {
	out := make([]member, 0, len(names))
	for _, id := range names {
		namespace, name, _ := strings.Cut(id, "/")
		m := member{ID: id, Name: name, Namespace: namespace}
		if st, ok := b.opt.Devices.Device(namespace, name); ok {
			m.State = st.State
			if !st.LastOnline.IsZero() {
				m.LastOnline = st.LastOnline.UTC().Format(time.RFC3339)
			}
		}
		out = append(out, m)
	}
	return out
}

func (b *Broker) reply(r request, message any) {
	topic := nodeTopic(r.name, "get/result")
	if r.kind != membershipGet {
		topic = deviceTopic(r.namespace, r.name, suffixes[r.kind]+"/result")
	}
	b.publish(topic, message)
}

func (b *Broker) refuse(r request, eventID string, code int, why error) {
	b.stats.requestsRefused.Add(1)
	reason := why.Error()
	if len(reason) > 1024 {
		reason = strings.ToValidUTF8(reason[:1024], "") + "…"
	}
	b.reply(r, refusal{now(eventID), code, strings.ReplaceAll(reason, "\n", "; ")})
}

// publish publishes a message of the agent's own.
func (b *Broker) publish(topic string, message any) {
	payload, err := json.Marshal(message)
	if err == nil {
		done := b.sizes.begin(topic, len(payload))
		err = b.srv().Publish(topic, payload, false, 1)
		done()
	}
	if err != nil {
		b.log.Error("an answer could not be published", "topic", topic, "error", err)
	}
}

// heard tells whether anybody is subscribed to a topic.
func (b *Broker) heard(topic string) bool {
	s := b.srv().Topics.Subscribers(topic)
	return len(s.Subscriptions)+len(s.Shared) > 0
}
