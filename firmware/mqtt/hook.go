package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage"
	"github.com/mochi-mqtt/server/v2/packets"
)

var (
	errPayload = fmt.Errorf("the payload is larger than mqtt.limits.payload: %w", packets.ErrRejectPacket) // any other error is ignored there
	errEntered = errors.New("the connection is none of the broker's")
)

// hook is where mochi asks. It lives as long as one Run.
type hook struct {
	mochi.HookBase
	*Broker
	ctx context.Context //nolint:containedctx // of Run; mochi has none
}

func (*hook) ID() string { return "skerry" }

func (*hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablished, mochi.OnDisconnect, mochi.OnPacketRead, mochi.OnPacketEncode,
		mochi.OnPacketProcessed, mochi.OnSubscribe, mochi.OnSubscribed, mochi.OnUnsubscribed, mochi.OnPublish, mochi.OnPublished, mochi.OnPublishDropped, mochi.OnRetainMessage,
		mochi.OnQosPublish, mochi.OnQosComplete, mochi.OnQosDropped, mochi.OnWill, mochi.OnWillSent,
		mochi.StoredClients, mochi.StoredInflightMessages, mochi.StoredRetainedMessages, mochi.StoredSubscriptions,
	}, b)
}

// OnConnect bounds what a client asks for.
func (h *hook) OnConnect(cl *mochi.Client, _ packets.Packet) error {
	if _, ok := cl.Net.Conn.(*conn); !ok {
		return errEntered
	}
	if most := uint16(h.opt.Limits.KeepAlive / time.Second); cl.State.Keepalive == 0 || cl.State.Keepalive > most { //nolint:gosec // checked by Limits
		cl.State.Keepalive, cl.State.ServerKeepalive = most, true
	}
	cl.Properties.Props.TopicAliasMaximum = 0
	cl.Properties.Props.SessionExpiryInterval = forEver(cl.Properties.Props.SessionExpiryInterval)
	return nil
}

// forEver leaves the end of sessions to the keeper: mochi counts wall clock time, and a gateway's clock may jump by decades.
func forEver(expiry uint32) uint32 {
	if expiry > 0 {
		return math.MaxUint32
	}
	return 0
}

func (h *hook) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return false
	}
	if err := h.enter(cl, c, &pk.Connect); err != nil {
		h.stats.refused.identity.Add(1)
		h.complain("a client was refused", "source", c.from.source, "listener", c.from.listener, "why", err)
		select {
		case <-h.ctx.Done():
		case <-time.After(afterRefusal):
		}
		return false
	}
	c.known()
	return true
}

// identityOf is who a client is now; a session without a connection keeps the identity that it was made by.
func (h *hook) identityOf(cl *mochi.Client) *Identity {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.identity.Load()
	}
	return h.byName(h.owners.identity(cl.ID))
}

// OnACLCheck judges what is published, subscriptions, and each delivery: there it also bounds what waits for a client.
func (h *hook) OnACLCheck(cl *mochi.Client, topic string, write bool) bool {
	id := h.identityOf(cl)
	if id == nil {
		return false
	}
	if write {
		if !id.mayPublish(topic) {
			h.stats.refused.topics.Add(1)
			return false
		}
		return true
	}
	if !id.mayReceive(topic) {
		h.stats.refused.topics.Add(1)
		return false
	}
	size, delivery := h.sizes.of(topic)
	if !delivery {
		return true
	}
	if cl.State.Inflight.Len() >= h.opt.Limits.Inflight {
		h.stats.dropped.inflight.Add(1)
		return false
	}
	if c, ok := cl.Net.Conn.(*conn); ok && !cl.Closed() && !c.queue(size, h.opt.Limits.QueueBytes) {
		h.stats.dropped.queue.Add(1)
		return false
	}
	return true
}

// OnPacketRead holds a client to its pace and its sizes.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, nil
	}
	if pk.FixedHeader.Type == packets.Publish && (len(pk.Payload) > h.opt.Limits.Payload || len(pk.TopicName) > maxTopic) {
		return pk, errPayload
	}
	if pk.FixedHeader.Type == packets.Puback {
		if _, there := cl.State.Inflight.Get(pk.PacketID); !there {
			cl.State.Inflight.IncreaseSendQuota() // of a message that had waited for the quota, which mochi counts no more
		}
	}
	if pk.FixedHeader.Type == packets.Disconnect {
		pk.Properties.SessionExpiryInterval = forEver(pk.Properties.SessionExpiryInterval)
	}
	if err := c.paces.Wait(h.ctx); err != nil {
		return pk, fmt.Errorf("%w: %w", packets.ErrRejectPacket, err)
	}
	return pk, nil
}

// OnPacketEncode waits until the client reads; whoever publishes does not come here.
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		c.queue(-len(pk.Payload), 0)
		c.awaitRoom()
		h.stats.delivered.Add(1)
	case packets.Connack:
		pk.Properties.MaximumPacketSize = h.packetSize()
	case packets.Disconnect:
	case packets.Suback:
		if pk.PacketID == 0 {
			pk.PacketID = c.subscribing
		}
		c.awaitRoom()
	default:
		c.awaitRoom()
	}
	return pk
}

// OnSubscribe bounds the subscriptions of a client: what is too much becomes a filter that is refused.
func (h *hook) OnSubscribe(cl *mochi.Client, pk packets.Packet) packets.Packet {
	if cl.Net.Inline {
		return pk
	}
	// Both ends number their packets by themselves (MQTT 3.1.1, 2.3.1); mochi refuses a SUBSCRIBE whose number one of its own messages has.
	if c, ok := cl.Net.Conn.(*conn); ok {
		if _, taken := cl.State.Inflight.Get(pk.PacketID); taken {
			c.subscribing, pk.PacketID = pk.PacketID, 0
		}
	}
	have := cl.State.Subscriptions.GetAll()
	for i := range pk.Filters {
		filter := pk.Filters[i].Filter
		if _, known := have[filter]; known {
			continue
		}
		if len(have) >= h.opt.Limits.Subscriptions {
			h.stats.refused.topics.Add(1)
			pk.Filters[i].Filter = "" // mochi answers that it is invalid
			continue
		}
		have[filter] = pk.Filters[i]
	}
	return pk
}

// OnPublish bounds what is retained.
func (h *hook) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline {
		return pk, nil
	}
	h.stats.published.Add(1)
	_, asks := parseRequest(pk.TopicName)
	if pk.FixedHeader.Retain && (asks || !h.retained.room(pk.TopicName, len(pk.Payload), h.opt.Limits.Retained)) {
		pk.FixedHeader.Retain = false
		if !asks { // a request is asked once
			h.stats.dropped.retained.Add(1)
		}
	}
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.published = h.sizes.begin(pk.TopicName, len(pk.Payload))
	}
	return pk, nil
}

func (h *hook) OnPublished(cl *mochi.Client, pk packets.Packet) {
	if !cl.Net.Inline {
		h.request(h.ctx, pk.TopicName, pk.Payload)
	}
}

// OnWill bounds what wills retain.
func (h *hook) OnWill(_ *mochi.Client, will mochi.Will) (mochi.Will, error) {
	if _, asks := parseRequest(will.TopicName); will.Retain && (asks || !h.retained.room(will.TopicName, len(will.Payload), h.opt.Limits.Retained)) {
		will.Retain = false
	}
	return will, nil
}

func (h *hook) OnWillSent(_ *mochi.Client, pk packets.Packet) {
	h.request(h.ctx, pk.TopicName, pk.Payload)
}

func (h *hook) OnPacketProcessed(cl *mochi.Client, pk packets.Packet, _ error) {
	if c, ok := cl.Net.Conn.(*conn); ok && c.published != nil {
		c.published()
		c.published = nil
	}
	if pk.FixedHeader.Type != packets.Pingreq && pk.FixedHeader.Type != packets.Publish || pk.FixedHeader.Qos > 0 {
		h.keeper.touch(cl.ID)
	}
}

func (h *hook) OnPublishDropped(cl *mochi.Client, pk packets.Packet) {
	h.stats.dropped.queue.Add(1)
	if c, ok := cl.Net.Conn.(*conn); ok {
		c.queue(-len(pk.Payload), 0)
	}
	h.keeper.touch(cl.ID)
}

func (h *hook) OnRetainMessage(_ *mochi.Client, pk packets.Packet, r int64) {
	size := 0
	if r > 0 {
		size = len(pk.TopicName) + len(pk.Payload)
	}
	h.retained.set(pk.TopicName, size)
	h.keeper.touchRetained(pk.TopicName)
}

func (h *hook) OnDisconnect(cl *mochi.Client, _ error, _ bool) {
	if c, ok := cl.Net.Conn.(*conn); ok && c.identity.Load() != nil {
		h.keeper.touch(cl.ID)
	}
}

func (h *hook) OnSessionEstablished(cl *mochi.Client, _ packets.Packet)   { h.keeper.touch(cl.ID) }
func (h *hook) OnSubscribed(cl *mochi.Client, _ packets.Packet, _ []byte) { h.keeper.touch(cl.ID) }
func (h *hook) OnUnsubscribed(cl *mochi.Client, _ packets.Packet)         { h.keeper.touch(cl.ID) }
func (h *hook) OnQosPublish(cl *mochi.Client, _ packets.Packet, _ int64, _ int) {
	h.keeper.touch(cl.ID)
}
func (h *hook) OnQosComplete(cl *mochi.Client, _ packets.Packet) { h.keeper.touch(cl.ID) }
func (h *hook) OnQosDropped(cl *mochi.Client, _ packets.Packet)  { h.keeper.touch(cl.ID) }
func (h *hook) StoredClients() ([]storage.Client, error)         { return h.keeper.found.clients, nil }
func (h *hook) StoredSubscriptions() ([]storage.Subscription, error) {
	return h.keeper.found.subscriptions, nil
}
func (h *hook) StoredInflightMessages() ([]storage.Message, error) {
	return h.keeper.found.messages, nil
}
func (h *hook) StoredRetainedMessages() ([]storage.Message, error) {
	return h.keeper.found.retained, nil
}

// sizes knows how large the messages are that are being published now, by their topics. It is safe for concurrent use.
type sizes struct {
	mu sync.Mutex
	at map[string]*published
}

type published struct{ at, most int }

// begin notes a message until end is called.
func (s *sizes) begin(topic string, size int) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at[topic]
	if p == nil {
		p = new(published)
		s.at[topic] = p
	}
	p.at++
	p.most = max(p.most, size)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.at--; p.at == 0 {
			delete(s.at, topic)
		}
	}
}

// of tells whether a message on topic is being published, and how large it is at most.
func (s *sizes) of(topic string) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.at[topic]
	if p == nil {
		return 0, false
	}
	return p.most, true
}

// ledger counts what retained messages take. It is safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	sizes map[string]int
	total int
}

func (l *ledger) room(topic string, payload, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return payload == 0 || l.total-l.sizes[topic]+len(topic)+payload <= most
}

func (l *ledger) set(topic string, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total += size - l.sizes[topic]
	if size == 0 {
		delete(l.sizes, topic)
	} else {
		l.sizes[topic] = size
	}
}

func (l *ledger) bytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.total)
}
