package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// renewal judges a request as a relay does, and returns what a relay would answer.
func (p *peer) renewal(r *http.Request) (join.Response, bool) {
	var req join.Renewal
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.URL.Path != join.RenewPath || r.Method != http.MethodPost {
		p.t.Errorf("asked with %s %s: %v", r.Method, r.URL, err)
		return join.Response{}, false
	}
	if len(r.TLS.PeerCertificates) > 0 {
		p.t.Error("a renewal came with a client certificate, which may have expired")
	}
	cert, err := x509.ParseCertificate(req.Certificate)
	if err != nil {
		p.t.Errorf("certificate: %v", err)
		return join.Response{}, false
	}
	key := cert.PublicKey.(*ecdsa.PublicKey)
	if err := req.Verify(r.TLS, key); err != nil {
		p.t.Errorf("proof: %v", err)
	}
	node, err := join.NodeOf(cert)
	if err != nil {
		p.t.Error(err)
	}
	return p.response(node, key), true
}

func (p *peer) renew(w http.ResponseWriter, r *http.Request) {
	if resp, ok := p.renewal(r); ok {
		_ = json.NewEncoder(w).Encode(resp)
	}
}

func (p *peer) joined(t *testing.T) (*Identity, string) {
	t.Helper()
	dir := t.TempDir()
	id, err := enroll(t, p.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	p.answer = p.renew
	return id, dir
}

func (p *peer) renewer(dir string) *Renewer {
	return NewRenewer(RenewOptions{
		Addresses: []string{p.address}, Dir: dir,
		pause: func(int, time.Duration) time.Duration { return time.Millisecond },
	})
}

func load(t *testing.T, dir string) *Identity {
	t.Helper()
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestRenewAtIsSpread holds the time to two thirds of the life, give or take a twentieth, and apart for a fleet.
func TestRenewAtIsSpread(t *testing.T) {
	p := newPeer(t)
	id, dir := p.joined(t)
	if again := load(t, dir); !again.RenewAt().Equal(id.RenewAt()) {
		t.Errorf("after a restart it is %v, before %v", again.RenewAt(), id.RenewAt())
	}
	if !id.issued.Equal(p.clock) {
		t.Errorf("issued at %v, by the relay's clock %v", id.issued, p.clock)
	}
	early, late := 1.0, 0.0
	for range 40 {
		key := newKey(t)
		resp := p.response("gw-1", &key.PublicKey)
		rec := &record{Chain: resp.Chain, Roots: resp.Roots, Issued: resp.Time}
		rec.Key, _ = x509.MarshalPKCS8PrivateKey(key)
		id, err := rec.identity()
		if err != nil {
			t.Fatal(err)
		}
		share := float64(id.RenewAt().Sub(id.issued)) / float64(id.NotAfter().Sub(id.issued))
		early, late = min(early, share), max(late, share)
		rec.Issued = time.Time{} // of an earlier release
		if id, err = rec.identity(); err != nil || !id.issued.Equal(id.NotBefore()) || !id.RenewAt().Before(id.NotAfter()) {
			t.Errorf("without a time of signing: issued %v, renew at %v (%v)", id.issued, id.RenewAt(), err)
		}
	}
	if early < 2.0/3-0.051 || late > 2.0/3+0.051 || late-early < 0.02 {
		t.Errorf("renewals are spread from %.3f to %.3f of the life", early, late)
	}
}

// TestWhenToRenew is about what a gateway knows of the time.
func TestWhenToRenew(t *testing.T) {
	p := newPeer(t)
	id, dir := p.joined(t)
	for name, c := range map[string]struct {
		clock   time.Time
		heard   time.Time
		refused bool
		due     bool
	}{
		"clock right, young":                      {clock: p.clock.Add(time.Hour)},
		"clock right, two thirds":                 {clock: p.clock.Add(18 * time.Hour), due: true},
		"clock right, a year in store":            {clock: p.clock.AddDate(1, 0, 0), due: true},
		"1970":                                    {clock: time.Unix(100, 0)},
		"1970, the relay says it is time":         {clock: time.Unix(100, 0), heard: p.clock.Add(18 * time.Hour), due: true},
		"1970, the relay refuses it as expired":   {clock: time.Unix(100, 0), refused: true, due: true},
		"2040, and the relay says it is not time": {clock: p.clock.AddDate(14, 0, 0), heard: p.clock.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			r := p.renewer(dir)
			r.opts.now = func() time.Time { return c.clock }
			if !c.heard.IsZero() {
				r.Heard(c.heard)
			}
			if c.refused {
				r.Refused()
			}
			if wait := r.look(id); (wait <= 0) != c.due {
				t.Errorf("it waits %v, due should be %v", wait, c.due)
			}
			if st := r.Status(); !st.NotAfter.Equal(id.NotAfter()) || !st.RenewAt.Equal(id.RenewAt()) {
				t.Errorf("status is %+v", st)
			}
		})
	}
	r := p.renewer(dir)
	clock := time.Unix(100, 0)
	r.opts.now = func() time.Time { return clock }
	r.Heard(p.clock)
	clock = clock.Add(18 * time.Hour) // connected all the time, without hearing the relay's clock again
	if wait := r.look(id); wait > 0 {
		t.Errorf("18 hours after hearing the relay's clock it still waits %v", wait)
	}
}

// TestClockOfRelays: relays' certificates are judged by the relay's clock once it was heard, and by the gateway's if that leads nowhere.
func TestClockOfRelays(t *testing.T) {
	p := newPeer(t)
	id, dir := p.joined(t)
	r := p.renewer(dir)
	clock := time.Unix(100, 0)
	r.opts.now = func() time.Time { return clock }
	if got := r.Clock(id)(); !got.Equal(id.NotBefore()) && !got.Equal(id.issued) {
		t.Errorf("in 1970 it reads %v", got)
	}
	clock = p.clock.AddDate(5, 0, 0)
	if got := r.Clock(id)(); !got.Equal(clock) {
		t.Errorf("before a relay was heard it reads %v, the gateway's is %v", got, clock)
	}
	r.Heard(p.clock)
	for i, want := range []time.Time{p.clock, clock, p.clock} {
		if got := r.Clock(id)(); !got.Equal(want) {
			t.Errorf("dial %d after a relay was heard is judged by %v, want %v", i, got, want)
		}
	}
	r.Heard(p.clock)
	if got := r.Clock(id)(); !got.Equal(p.clock) {
		t.Errorf("after it was heard again it reads %v", got)
	}
}

// TestSignedAndNotSaved cuts the connection, as a power cut does, after the relay has signed: nothing is lost by it.
func TestSignedAndNotSaved(t *testing.T) {
	p := newPeer(t)
	old, dir := p.joined(t)
	var asked atomic.Int32
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		resp, ok := p.renewal(r)
		if !ok {
			return
		}
		if asked.Add(1) < 3 {
			if now := load(t, dir); !now.chain.Leaf.Equal(old.chain.Leaf) {
				p.t.Error("the old identity is gone before the new one is there")
			}
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(resp)
	}
	r := p.renewer(dir)
	r.Refused()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for r.Status().Renewed == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	now := load(t, dir)
	if now.serial != old.serial+1 || now.chain.Leaf.Equal(old.chain.Leaf) || !now.chain.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(old.chain.Leaf.PublicKey) {
		t.Errorf("serial %d after %d; want a new certificate for the same key", now.serial, old.serial)
	}
	if st := r.Status(); st.LastError != "" || !st.FailingSince.IsZero() || asked.Load() != 3 || st.Renewed != 1 {
		t.Errorf("after %d requests the status is %+v", asked.Load(), st)
	}
	for _, path := range copies(dir, current) {
		if rec, err := readCopy(path); err != nil || rec.Serial != now.serial {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(now.Repaired()) > 0 {
		t.Errorf("repaired %v", now.Repaired())
	}
}

// TestUnusableAnswers shows that the identity stays what it is if the relay's answer would be worse.
func TestUnusableAnswers(t *testing.T) {
	p, stranger := newPeer(t), newPeer(t)
	old, dir := p.joined(t)
	other := newKey(t)
	for name, c := range map[string]struct {
		change func(*join.Response)
		want   string
	}{
		"for another key": {func(r *join.Response) { *r = p.response("gw-1", &other.PublicKey) }, "another key"},
		"for another node": {func(r *join.Response) {
			r.Chain = p.response("gw-2", &old.chain.PrivateKey.(*ecdsa.PrivateKey).PublicKey).Chain
		}, `"gw-2"`},
		"not of the roots": {func(r *join.Response) { r.Roots = [][]byte{stranger.ca.Raw} }, "not of the CAs"},
		"no roots":         {func(r *join.Response) { r.Roots = nil }, "no certificate"},
		"roots without the relay's": {func(r *join.Response) {
			key := &old.chain.PrivateKey.(*ecdsa.PrivateKey).PublicKey
			*r = stranger.response("gw-1", key)
		}, "skerry-ca"},
		"nothing": {func(r *join.Response) { *r = join.Response{} }, "no Skerry relay"},
	} {
		t.Run(name, func(t *testing.T) {
			p.answer = func(w http.ResponseWriter, r *http.Request) {
				if resp, ok := p.renewal(r); ok {
					c.change(&resp)
					_ = json.NewEncoder(w).Encode(resp)
				}
			}
			if _, err := p.renewer(dir).renew(t.Context(), old); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			if now := load(t, dir); now.serial != old.serial || !now.chain.Leaf.Equal(old.chain.Leaf) {
				t.Error("the identity has changed")
			}
		})
	}
	p.answer = func(w http.ResponseWriter, r *http.Request) { // the successor of the CA comes along
		if resp, ok := p.renewal(r); ok {
			resp.Roots = append(resp.Roots, stranger.ca.Raw)
			_ = json.NewEncoder(w).Encode(resp)
		}
	}
	if _, err := p.renewer(dir).renew(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	rec, _, err := readRecord(dir, current)
	if err != nil || len(rec.Roots) != 2 {
		t.Errorf("after a renewal that names two CAs: %d (%v)", len(rec.Roots), err)
	}
}

func TestJoinedAnewMeanwhile(t *testing.T) {
	p := newPeer(t)
	old, dir := p.joined(t)
	p.answer = func(w http.ResponseWriter, r *http.Request) {
		rec, _, err := readRecord(dir, current)
		if err != nil {
			p.t.Error(err)
			return
		}
		rec.Serial++
		rec.TokenID = "another"
		if err := writeRecord(dir, current, rec); err != nil {
			p.t.Error(err)
		}
		p.renew(w, r)
	}
	if _, err := p.renewer(dir).renew(t.Context(), old); err == nil || !strings.Contains(err.Error(), "joined anew") {
		t.Errorf("error is %v", err)
	}
	if now := load(t, dir); now.tokenID != "another" {
		t.Error("the renewal replaced what a join has saved")
	}
}

// TestFailingForLong checks who is told, and how often.
func TestFailingForLong(t *testing.T) {
	p := newPeer(t)
	id, dir := p.joined(t) // valid for 24 hours
	var told []string
	clock := p.clock
	r := NewRenewer(RenewOptions{Addresses: []string{p.address}, Dir: dir, Failing: func(m string) { told = append(told, m) }, now: func() time.Time { return clock }})
	fail := func(after time.Duration, want int) {
		t.Helper()
		clock = p.clock.Add(after)
		r.failed(id, errors.New("no relay answers"))
		if len(told) != want {
			t.Errorf("after %v: told %d times, want %d", after, len(told), want)
		}
	}
	fail(16*time.Hour, 0)
	fail(17*time.Hour, 0)
	fail(18*time.Hour+time.Minute, 1) // a twelfth of the life is two hours
	fail(20*time.Hour, 1)
	fail(30*time.Hour, 1)
	fail(43*time.Hour, 2)
	if len(told) == 2 && (!strings.Contains(told[0], "is valid until") || !strings.Contains(told[1], "has expired") || !strings.Contains(told[1], "no relay answers") || !strings.Contains(told[1], `"gw-1"`)) {
		t.Errorf("told %q", told)
	}
	if st := r.Status(); st.LastError == "" || !st.FailingSince.Equal(p.clock.Add(16*time.Hour)) {
		t.Errorf("status is %+v", st)
	}
}

func TestPauses(t *testing.T) {
	for attempt := range 40 {
		if d := renewPause(attempt, longestPause); d < shortestPause/2 || d > longestPause {
			t.Errorf("attempt %d: %v", attempt, d)
		}
	}
	p := newPeer(t)
	id, dir := p.joined(t)
	r := p.renewer(dir)
	if d := r.longest(id); d != longestPause {
		t.Errorf("of a day's certificate: %v", d)
	}
	r.Refused()
	if d := r.longest(id); d != expiredPause {
		t.Errorf("of an expired one: %v", d)
	}
}

// TestNotJoined waits for a join, and ends when it shall.
func TestNotJoined(t *testing.T) {
	r := NewRenewer(RenewOptions{Addresses: []string{"127.0.0.1:1"}, Dir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run = %v", err)
	}
	if st := r.Status(); st != (RenewStatus{}) {
		t.Errorf("status is %+v", st)
	}
}
