package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// Flood is a class of attacks that goes on until its context ends, for measuring what it does to others.
type Flood struct {
	Name string
	// Run attacks as node. What the relay refuses is no error.
	Run func(ctx context.Context, a *Attacker, node string)
}

// Floods returns the classes.
func Floods() []Flood {
	return []Flood{
		{"messages", func(ctx context.Context, a *Attacker, node string) {
			a.again(ctx, node, func(s *Session) { s.pour(ctx, Frame(Fin|Binary, []byte{byte(wire.TypePing), 0x80})) })
		}},
		{"bytes", func(ctx context.Context, a *Attacker, node string) {
			body := append([]byte{64, 0xc6, 0, 6, 0, 0}, make([]byte, 6<<16)...)
			a.again(ctx, node, func(s *Session) { s.pour(ctx, Frame(Fin|Binary, body)) })
		}},
		{"reports", func(ctx context.Context, a *Attacker, node string) {
			a.again(ctx, node, func(s *Session) { s.reportFlood(ctx, node) })
		}},
		{"sessions", func(ctx context.Context, a *Attacker, node string) {
			a.again(ctx, node, func(*Session) {})
		}},
		{"handshakes", func(ctx context.Context, a *Attacker, _ string) {
			nobody := &Attacker{Address: a.Address, Roots: a.Roots, From: a.From}
			for ctx.Err() == nil {
				if c, err := nobody.TLS(ctx); err == nil {
					_ = c.Close()
				}
			}
		}},
		{"slow-connections", slowConnections},
		{"commits-not-taken", func(ctx context.Context, a *Attacker, node string) {
			a.again(ctx, node, func(s *Session) {
				for ctx.Err() == nil && s.Send(&wire.Ping{}) == nil { // lives, and acknowledges nothing
					pause(ctx, 2*time.Second)
				}
			})
		}},
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// again opens one session after the other and has each used.
func (a *Attacker) again(ctx context.Context, node string, use func(*Session)) {
	for ctx.Err() == nil {
		s, err := a.Open(ctx, Hello(node))
		if err != nil {
			var refusal *ErrHTTP
			if errors.As(err, &refusal) && refusal.Status == http.StatusTooManyRequests {
				pause(ctx, 50*time.Millisecond) // an attacker has no use for answers that cost it a handshake
			}
			continue
		}
		stop := context.AfterFunc(ctx, s.Close)
		use(s)
		stop()
		s.Close()
	}
}

// pour sends b as fast as it is taken, and reads what comes.
func (s *Session) pour(ctx context.Context, b []byte) {
	go func() { _, _ = io.Copy(io.Discard, s.Conn) }() // ends with the connection
	for ctx.Err() == nil && s.Raw(b) == nil {
	}
}

// reportFlood reports something new about the node as fast as reports are acknowledged.
func (s *Session) reportFlood(ctx context.Context, node string) {
	key := wire.NewKey(wire.KindNode, "", node, "")
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		doc := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":"True","reason":"x","message":"%d"}]}}`, seq)
		body, err := canon.FromJSON([]byte(doc))
		if err != nil || s.Send(&wire.Report{Seq: seq, Items: []wire.ReportItem{{Key: key, Body: body}}}) != nil {
			return
		}
		seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.ReportAck); return ok })
		if seen.Err != nil || seen.Close != nil {
			return
		}
	}
}

// slowConnections keeps some hundred connections open that say next to nothing.
func slowConnections(ctx context.Context, a *Attacker, _ string) {
	const many = 500
	open := make([]net.Conn, many)
	defer func() {
		for _, c := range open {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for ctx.Err() == nil {
		for i, c := range open {
			if ctx.Err() != nil {
				return
			}
			if c != nil {
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				if _, err := c.Write([]byte{0x16}); err == nil {
					continue
				}
				_ = c.Close()
			}
			open[i], _ = a.TCP(ctx)
		}
		pause(ctx, time.Second)
	}
}
