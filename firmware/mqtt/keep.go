package mqtt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"
)

// keepEvery is how often what has changed is handed to the store, which has a window of its own.
const keepEvery = time.Second

// Keys of records; the middle is a hash of the client identifier, or of the topic.
const (
	sessionPrefix  = "s/"
	messagePrefix  = "m/"
	retainedPrefix = "r/"
)

// batchBytes bounds one batch for the store.
const batchBytes = 256 << 10

// keeper writes sessions and retained messages to the store, behind: what changes within a second costs one write, and a budget of bytes per second bounds what
// the flash gets; what is beyond it waits. touch and touchRetained are safe for concurrent use.
type keeper struct {
	b      *Broker
	budget *rate.Limiter
	found  struct {
		clients       []storage.Client
		subscriptions []storage.Subscription
		messages      []storage.Message
		retained      []storage.Message
	}

	mu      sync.Mutex
	dirty   map[string]bool // client identifiers
	topics  map[string]bool
	written int64 // bytes that are kept

	saved    map[string]map[string][32]byte // by client identifier: records, and what they hold; of the goroutine that flushes
	retained map[string]bool                // topics that have a record; the same
	sizes    map[string]int                 // of records by key; the same
	failing  bool
}

func newKeeper(b *Broker) *keeper {
	r := b.opt.Limits.FlashRate
	return &keeper{
		b: b, budget: rate.NewLimiter(rate.Limit(r), 64*r), dirty: make(map[string]bool), topics: make(map[string]bool),
		saved: make(map[string]map[string][32]byte), retained: make(map[string]bool), sizes: make(map[string]int),
	}
}

func (k *keeper) touch(client string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dirty[client] = true
}

func (k *keeper) touchRetained(topic string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics[topic] = true
}

func (k *keeper) kept() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.written
}

// run flushes and sweeps until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.sweep()
			k.flush(false)
		}
	}
}

// sweep ends sessions whose time is over.
func (k *keeper) sweep() {
	server := k.b.srv()
	k.b.owners.sweep(func(client string, since time.Duration) bool {
		cl, ok := server.Clients.Get(client)
		if !ok {
			k.touch(client)
			return true
		}
		if !cl.Closed() || lasting(cl) && since < k.b.opt.Limits.SessionExpiry {
			return false
		}
		server.UnsubscribeClient(cl)
		cl.ClearInflights()
		server.Clients.Delete(client)
		k.touch(client)
		return true
	})
}

// lasting tells whether a session outlives its connection.
func lasting(cl *mochi.Client) bool {
	if cl.Properties.ProtocolVersion == 5 {
		return cl.Properties.Props.SessionExpiryInterval > 0
	}
	return !cl.Properties.Clean
}

// hashed is a key of bounded length.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// sessionRecord is a session without its messages.
type sessionRecord struct {
	ID            string               `json:"id"`
	Identity      string               `json:"who"`
	Version       byte                 `json:"v"`
	Subscriptions []subscriptionRecord `json:"subs,omitempty"`
}

type subscriptionRecord struct {
	Filter     string `json:"f"`
	Qos        byte   `json:"q,omitempty"`
	Identifier int    `json:"i,omitempty"`
	Handling   byte   `json:"h,omitempty"`
	AsPub      bool   `json:"p,omitempty"`
	NoLocal    bool   `json:"n,omitempty"`
}

// messageRecord is a message of a session, or a retained one.
type messageRecord struct {
	Client   string `json:"c,omitempty"`
	Topic    string `json:"t,omitempty"`
	Payload  []byte `json:"p,omitempty"`
	Origin   string `json:"o,omitempty"`
	Created  int64  `json:"at,omitempty"`
	PacketID uint16 `json:"id,omitempty"`
	Type     byte   `json:"k"`
	Qos      byte   `json:"q,omitempty"`
	Type5    string `json:"ct,omitempty"` // content type
	Response string `json:"rt,omitempty"`
	Correl   []byte `json:"cd,omitempty"`
}

func recordOf(client string, pk *packets.Packet) messageRecord {
	return messageRecord{
		Client: client, Topic: pk.TopicName, Payload: pk.Payload, Origin: pk.Origin, Created: pk.Created, PacketID: pk.PacketID, Type: pk.FixedHeader.Type, Qos: pk.FixedHeader.Qos,
		Type5: pk.Properties.ContentType, Response: pk.Properties.ResponseTopic, Correl: pk.Properties.CorrelationData,
	}
}

func (m *messageRecord) message(retain bool) storage.Message {
	return storage.Message{
		Client: m.Client, TopicName: m.Topic, Payload: m.Payload, Origin: m.Origin, Created: m.Created, PacketID: m.PacketID,
		FixedHeader: packets.FixedHeader{Type: m.Type, Qos: m.Qos, Retain: retain},
		Properties:  storage.MessageProperties{ContentType: m.Type5, ResponseTopic: m.Response, CorrelationData: m.Correl},
	}
}

var errRecord = errors.New("the record makes no sense")

// decodeSession and decodeMessage read records; they come from the sealed store, and a damaged one costs itself alone.
func decodeSession(key string, body []byte) (r sessionRecord, err error) {
	if err := json.Unmarshal(body, &r); err != nil {
		return r, err
	}
	if r.ID == "" || key != sessionPrefix+hashed(r.ID) || r.Version < 3 || r.Version > 5 {
		return r, errRecord
	}
	for _, s := range r.Subscriptions {
		if s.Filter == "" || len(s.Filter) > maxTopic || s.Qos > 2 || s.Handling > 2 {
			return r, errRecord
		}
	}
	return r, nil
}

func decodeMessage(key string, body []byte) (m messageRecord, err error) {
	if err := json.Unmarshal(body, &m); err != nil {
		return m, err
	}
	switch {
	case strings.HasPrefix(key, retainedPrefix):
		if key != retainedPrefix+hashed(m.Topic) || !ValidTopic(m.Topic) || m.Type != packets.Publish || m.Qos > 2 {
			return m, errRecord
		}
	case key != messageKey(m.Client, m.PacketID) || m.PacketID == 0 || m.Qos > 2:
		return m, errRecord
	case m.Type == packets.Publish:
		if !ValidTopic(m.Topic) || m.Qos == 0 {
			return m, errRecord
		}
	case m.Type != packets.Pubrec && m.Type != packets.Pubrel && m.Type != packets.Puback && m.Type != packets.Pubcomp:
		return m, errRecord
	}
	return m, nil
}

func messageKey(client string, id uint16) string {
	return fmt.Sprintf("%s%s/%04x", messagePrefix, hashed(client), id)
}

// load reads what was kept. Sessions whose identity is gone from the configuration are dropped.
func (k *keeper) load() error {
	type kept struct {
		sum  [32]byte
		size int
	}
	messages := make(map[string]map[string]kept)
	err := k.b.opt.Records.Scan(func(key string, body []byte) error {
		var err error
		switch {
		case strings.HasPrefix(key, sessionPrefix):
			var r sessionRecord
			if r, err = decodeSession(key, body); err == nil && k.b.byName(r.Identity) != nil {
				k.foundSession(&r)
				k.note(r.ID, key, body)
				return nil
			}
		case strings.HasPrefix(key, retainedPrefix):
			var m messageRecord
			if m, err = decodeMessage(key, body); err == nil {
				k.found.retained = append(k.found.retained, m.message(true))
				k.b.retained.set(m.Topic, len(m.Topic)+len(m.Payload))
				k.retained[m.Topic], k.sizes[key] = true, len(body)
				k.written += int64(len(body))
				return nil
			}
		default:
			var m messageRecord
			if m, err = decodeMessage(key, body); err == nil {
				k.found.messages = append(k.found.messages, m.message(false))
				if messages[m.Client] == nil {
					messages[m.Client] = make(map[string]kept)
				}
				messages[m.Client][key] = kept{sha256.Sum256(body), len(body)}
				return nil
			}
		}
		if err != nil {
			k.b.stats.damaged.Add(1)
		}
		return k.b.opt.Records.CommitLazy([]Record{{Key: key}})
	})
	if err != nil {
		return fmt.Errorf("read the MQTT sessions: %w", err)
	}
	for client, records := range messages {
		if k.saved[client] == nil { // its session is gone
			k.saved[client] = make(map[string][32]byte)
			k.dirty[client] = true
		}
		for key, x := range records {
			k.saved[client][key], k.sizes[key] = x.sum, x.size
			k.written += int64(x.size)
		}
	}
	slices.SortStableFunc(k.found.messages, func(a, b storage.Message) int { return int(a.Created - b.Created) })
	return nil
}

func (k *keeper) note(client, key string, body []byte) {
	if k.saved[client] == nil {
		k.saved[client] = make(map[string][32]byte)
	}
	k.saved[client][key], k.sizes[key] = sha256.Sum256(body), len(body)
	k.written += int64(len(body))
}

func (k *keeper) foundSession(r *sessionRecord) {
	c := storage.Client{ID: r.ID, Username: []byte(r.Identity), ProtocolVersion: r.Version}
	if r.Version == 5 {
		c.Properties.SessionExpiryInterval, c.Properties.SessionExpiryIntervalFlag = forEver(1), true
	}
	k.found.clients = append(k.found.clients, c)
	for _, s := range r.Subscriptions {
		k.found.subscriptions = append(k.found.subscriptions, storage.Subscription{
			Client: r.ID, Filter: s.Filter, Qos: s.Qos, Identifier: s.Identifier, RetainHandling: s.Handling, RetainAsPublished: s.AsPub, NoLocal: s.NoLocal,
		})
	}
	k.b.owners.restore(r.ID, r.Identity)
}

// loaded forgets what the server has taken over, and the figures that it retains for itself.
func (k *keeper) loaded() {
	k.found.clients, k.found.subscriptions, k.found.messages, k.found.retained = nil, nil, nil, nil
	for topic := range k.b.srv().Topics.Retained.GetAll() {
		if strings.HasPrefix(topic, mochi.SysPrefix) {
			k.b.srv().Topics.Retained.Delete(topic)
		}
	}
}

// flush writes what has changed, as far as the flash's budget goes; all: whatever it takes.
func (k *keeper) flush(all bool) {
	k.mu.Lock()
	dirty, topics := k.dirty, k.topics
	k.dirty, k.topics = make(map[string]bool), make(map[string]bool)
	k.mu.Unlock()
	var out []Record
	size := 0
	put := func(records []Record) {
		for _, r := range records {
			size += len(r.Key) + len(r.Body)
		}
		out = append(out, records...)
		if size >= batchBytes {
			k.commit(out)
			out, size = nil, 0
		}
	}
	over := false
	for client := range dirty {
		if over = over || !all && k.budget.Tokens() <= 0; over {
			k.touch(client)
			k.b.stats.deferred.Add(1)
			continue
		}
		put(k.session(client))
	}
	for topic := range topics {
		if over = over || !all && k.budget.Tokens() <= 0; over {
			k.touchRetained(topic)
			k.b.stats.deferred.Add(1)
			continue
		}
		put(k.retain(topic))
	}
	k.commit(out)
}

// commit hands records to the store. What it does not take is lost for a restart, and told once.
func (k *keeper) commit(records []Record) {
	if len(records) == 0 {
		return
	}
	err := k.b.opt.Records.CommitLazy(records)
	if err != nil && !k.failing {
		k.b.log.Error("MQTT sessions cannot be written: a restart will lose them", "error", err)
	}
	k.failing = err != nil
	total := 0
	for _, r := range records {
		total += len(r.Key) + len(r.Body)
	}
	k.budget.ReserveN(time.Now(), min(total, k.budget.Burst()))
	k.b.stats.written.Add(uint64(total)) //nolint:gosec // a length
}

// session returns the records of a session that are not as they should be.
func (k *keeper) session(client string) []Record {
	want := make(map[string][]byte)
	if cl, ok := k.b.srv().Clients.Get(client); ok && !cl.Net.Inline && lasting(cl) {
		k.describe(cl, want)
	}
	was := k.saved[client]
	var out []Record
	for key := range was {
		if want[key] == nil {
			out = append(out, Record{Key: key})
			delete(was, key)
			k.count(key, 0)
		}
	}
	for key, body := range want {
		sum := sha256.Sum256(body)
		if was != nil && was[key] == sum {
			continue
		}
		if !k.count(key, len(body)) {
			k.b.stats.unsaved.Add(1)
			continue
		}
		if was == nil {
			was = make(map[string][32]byte)
			k.saved[client] = was
		}
		was[key] = sum
		out = append(out, Record{key, body})
	}
	if len(was) == 0 {
		delete(k.saved, client)
	}
	return out
}

func (k *keeper) describe(cl *mochi.Client, want map[string][]byte) {
	r := sessionRecord{ID: cl.ID, Identity: k.b.owners.identity(cl.ID), Version: cl.Properties.ProtocolVersion}
	for _, s := range cl.State.Subscriptions.GetAll() {
		r.Subscriptions = append(r.Subscriptions, subscriptionRecord{s.Filter, s.Qos, s.Identifier, s.RetainHandling, s.RetainAsPublished, s.NoLocal})
	}
	slices.SortFunc(r.Subscriptions, func(a, b subscriptionRecord) int { return strings.Compare(a.Filter, b.Filter) })
	if body, err := json.Marshal(r); err == nil {
		want[sessionPrefix+hashed(cl.ID)] = body
	}
	for _, pk := range cl.State.Inflight.GetAll(false) {
		if body, err := json.Marshal(recordOf(cl.ID, &pk)); err == nil {
			want[messageKey(cl.ID, pk.PacketID)] = body
		}
	}
}

// retain returns the record of a retained message, if it is not as it should be.
func (k *keeper) retain(topic string) []Record {
	key := retainedPrefix + hashed(topic)
	pk, ok := k.b.srv().Topics.Retained.Get(topic)
	if !ok || len(pk.Payload) == 0 {
		k.count(key, 0)
		if !k.retained[topic] {
			return nil
		}
		delete(k.retained, topic)
		return []Record{{Key: key}}
	}
	m := recordOf("", &pk)
	m.PacketID, m.Client = 0, ""
	body, err := json.Marshal(m)
	if err != nil || !k.count(key, len(body)) {
		k.b.stats.unsaved.Add(1)
		return nil
	}
	k.retained[topic] = true
	return []Record{{key, body}}
}

// count notes the size of a record; false: there is no room for it.
func (k *keeper) count(key string, size int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.written - int64(k.sizes[key]) + int64(size)
	if size > 0 && next > int64(k.b.opt.Limits.Kept) {
		return false
	}
	k.written = next
	if size == 0 {
		delete(k.sizes, key)
	} else {
		k.sizes[key] = size
	}
	return true
}
