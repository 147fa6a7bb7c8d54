package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Broker is the event bus. It is safe for concurrent use; Run is called once at a time.
type Broker struct {
	opt       Options
	log       *slog.Logger
	passwords *passwords
	admission *admission
	stats     counters

	server   atomic.Pointer[mochi.Server] // of the newest Run
	running  sync.WaitGroup               // what Run waits for
	owners   *owners
	keeper   *keeper
	retained ledger
	sizes    sizes
	queues   *queues
	changes  *changes

	mu    sync.Mutex
	conns map[*conn]bool
	addrs map[string]net.Addr

	complained complaint
}

// New returns a broker.
func New(opt Options) (*Broker, error) {
	b := &Broker{opt: opt, log: opt.Log, admission: newAdmission(opt.Limits), conns: make(map[*conn]bool), addrs: make(map[string]net.Addr)}
	if b.log == nil {
		b.log = slog.Default()
	}
	var err error
	if b.passwords, err = newPasswords(opt.Passwords); err != nil {
		return nil, err
	}
	b.reset()
	return b, nil
}

func (b *Broker) reset() {
	b.owners = &owners{of: make(map[string]*owner)}
	b.retained.mu.Lock()
	b.retained.sizes, b.retained.total = make(map[string]int), 0
	b.retained.mu.Unlock()
	b.sizes.mu.Lock()
	b.sizes.at = make(map[string]*published)
	b.sizes.mu.Unlock()
	b.queues, b.changes, b.keeper = &queues{}, newChanges(), newKeeper(b)
}

func (b *Broker) srv() *mochi.Server { return b.server.Load() }

// packetSize is the largest packet: a payload, its topic and some properties.
func (b *Broker) packetSize() uint32 {
	return uint32(max(b.opt.Limits.Payload+maxTopic+1024, maxConnect)) //nolint:gosec // checked with the configuration
}

// Run serves clients until ctx ends. Then their sessions are written.
func (b *Broker) Run(ctx context.Context) error {
	b.reset()
	l := b.opt.Limits
	caps := mochi.NewDefaultServerCapabilities()
	caps.MaximumClients = math.MaxInt64 // admission counts
	caps.MaximumMessageExpiryInterval = 0
	caps.MaximumClientWritesPending = int32(l.Queue) //nolint:gosec // checked with the configuration
	caps.MaximumPacketSize = b.packetSize()
	caps.ReceiveMaximum = uint16(l.Inflight)        //nolint:gosec // checked with the configuration
	caps.MaximumInflight = uint16(2*l.Inflight + 8) //nolint:gosec // OnACLCheck is there first
	caps.TopicAliasMaximum = 0
	caps.Compatibilities.NoInheritedPropertiesOnAck = true
	server := mochi.New(&mochi.Options{
		Capabilities: caps, ClientNetReadBufferSize: 1 << 10, ClientNetWriteBufferSize: 1 << 10, InlineClient: true,
		SysTopicResendInterval: math.MaxInt32, // nobody may see $SYS; the figures are on /metrics
		Logger:                 slog.New(slog.DiscardHandler),
	})
	if err := b.keeper.load(); err != nil {
		return err
	}
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := server.AddHook(&hook{Broker: b, ctx: runCtx}, nil); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	b.server.Store(server)
	if err := server.Serve(); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	b.keeper.loaded()
	b.opt.Driver.serve(b.deliver)
	for _, listener := range b.opt.Listeners {
		b.running.Go(func() { b.listen(runCtx, listener) })
	}
	b.running.Go(func() { b.tellChanges(runCtx) })
	b.keeper.run(runCtx)
	b.opt.Driver.serve(nil)
	b.queues.end()
	cancel()
	b.closeAll()
	b.running.Wait()
	b.keeper.flush(true)
	return server.Close()
}

// establish serves a connection until it ends.
func (b *Broker) establish(ctx context.Context, over net.Conn, place *admitted, from origin) {
	defer place.gone()
	c := newConn(b, over, from, place.known)
	if err := over.SetReadDeadline(time.Now().Add(helloWithin)); err != nil {
		_ = c.Close()
		return
	}
	b.mu.Lock()
	b.conns[c] = true
	b.mu.Unlock()
	if ctx.Err() == nil {
		_ = b.srv().EstablishConnection(from.listener, c) // why it ended is counted where it happened
	}
	_ = c.Close()
	if c.identity.Load() != nil {
		_, stays := b.srv().Clients.Get(c.session)
		b.owners.leave(c.session, stays)
	}
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// closeAll ends all connections. Clients of MQTT 5 are told why; the older protocol has no words for it.
func (b *Broker) closeAll() {
	for _, cl := range b.srv().Clients.GetAll() {
		if !cl.Net.Inline && cl.Properties.ProtocolVersion == 5 {
			_ = b.srv().DisconnectClient(cl, packets.ErrServerShuttingDown)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
}

func (b *Broker) bound(kind string, a net.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs[kind] = a
	b.log.Info("MQTT clients may connect", "listener", kind, "address", a)
}

// Addr is where a listener of a kind is; nil: nowhere yet.
func (b *Broker) Addr(kind string) net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addrs[kind]
}

// complaint bounds how often the log tells of what a client does wrong.
type complaint struct {
	mu   sync.Mutex
	next time.Time
	held int
}

const complainEvery = 10 * time.Second

func (b *Broker) complain(message string, args ...any) {
	x := &b.complained
	x.mu.Lock()
	now := time.Now()
	if now.Before(x.next) {
		x.held++
		x.mu.Unlock()
		return
	}
	held := x.held
	x.held, x.next = 0, now.Add(complainEvery)
	x.mu.Unlock()
	if held > 0 {
		args = append(args, "alsoNotTold", held)
	}
	b.log.Warn(message, args...)
}
