package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// tokenFor is a token that an operator made when ca was the CA.
func tokenFor(node string, ca *x509.Certificate) string {
	tok := join.Token{ID: "tokenbefore", Node: node, CA: ca}
	return tok.String()
}

// TestFullDisk: a disk that does not take the new certificate costs the relay one request, not one for each attempt, and says so.
func TestFullDisk(t *testing.T) {
	p := newPeer(t)
	old, dir := p.joined(t)
	var asked atomic.Int32
	p.answer = func(w http.ResponseWriter, r *http.Request) { asked.Add(1); p.renew(w, r) }
	r := p.renewer(dir)
	clock := p.clock.Add(18 * time.Hour)
	r.opts.now = func() time.Time { return clock }
	full := true
	write := r.opts.save
	r.opts.save = func(rec *record) error {
		if full {
			return fmt.Errorf("write: %w", syscall.ENOSPC)
		}
		return write(rec)
	}
	for range 5 {
		_, err := r.renew(t.Context(), old)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free the disk") {
			t.Fatalf("error is %v", err)
		}
		r.failed(old, err)
	}
	if st := r.Status(); !st.Unsaved || !strings.Contains(st.LastError, "no space left") {
		t.Errorf("status is %+v", st)
	}
	if asked.Load() != 1 {
		t.Errorf("the relay was asked %d times for what was there already", asked.Load())
	}
	if now := load(t, dir); now.serial != old.serial {
		t.Error("the identity has changed")
	}
	full = false
	next, err := r.renew(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	r.renewed(next)
	if now := load(t, dir); asked.Load() != 1 || now.serial != old.serial+1 || !now.chain.Leaf.Equal(next.chain.Leaf) {
		t.Errorf("asked %d times, serial %d after %d", asked.Load(), now.serial, old.serial)
	}
	if st := r.Status(); st.Unsaved || st.LastError != "" || st.Issuer != p.ca.Subject.CommonName {
		t.Errorf("status is %+v", st)
	}

	// What lay unsaved until it was itself due is not saved any more.
	full = true
	if _, err := r.renew(t.Context(), next); err == nil {
		t.Fatal("saved on a full disk")
	}
	clock = clock.Add(48 * time.Hour)
	r.Heard(clock)
	full = false
	if _, err := r.renew(t.Context(), next); err != nil || asked.Load() != 3 {
		t.Errorf("asked %d times, want a third (%v)", asked.Load(), err)
	}
}

// TestPowerCutBetweenTheCopies leaves the folder as it is when power fails after the first of the two copies was replaced, or while
// a copy is being written: the gateway starts with a whole identity, and both certificates are for its key.
func TestPowerCutBetweenTheCopies(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, paths [2]string, was [2][]byte){
		"before the second copy": func(t *testing.T, paths [2]string, was [2][]byte) { put(t, paths[1], was[1]) },
		"the second copy is gone": func(t *testing.T, paths [2]string, _ [2][]byte) {
			if err := os.Remove(paths[1]); err != nil {
				t.Fatal(err)
			}
		},
		"the first copy is torn": func(t *testing.T, paths [2]string, was [2][]byte) {
			put(t, paths[0], was[0][:len(was[0])/2])
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			old, dir := p.joined(t)
			paths := copies(dir, current)
			var was [2][]byte
			for i, path := range paths {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				was[i] = b
			}
			next, err := p.renewer(dir).renew(t.Context(), old)
			if err != nil {
				t.Fatal(err)
			}
			cut(t, paths, was)
			now := load(t, dir)
			if !now.chain.Leaf.Equal(next.chain.Leaf) || len(now.Repaired()) != 1 {
				t.Errorf("serial %d, repaired %v", now.serial, now.Repaired())
			}
			if !now.chain.PrivateKey.(*ecdsa.PrivateKey).Equal(old.chain.PrivateKey) {
				t.Error("another key")
			}
			if again := load(t, dir); len(again.Repaired()) > 0 {
				t.Errorf("repaired again: %v", again.Repaired())
			}
		})
	}
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRetryAfterIsHonoured, within bounds, and with jitter.
func TestRetryAfterIsHonoured(t *testing.T) {
	p := newPeer(t)
	old, dir := p.joined(t)
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "86400": longestAsked, "99999999999999999999": 0} {
		p.answer = func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set("Retry-After", header)
			}
			w.WriteHeader(http.StatusTooManyRequests)
			_ = json.NewEncoder(w).Encode(join.Refusal{Code: join.CodeBusy, Message: "busy"})
		}
		_, err := p.renewer(dir).renew(t.Context(), old)
		var refusal *join.Refusal
		if !errors.As(err, &refusal) || refusal.Code != join.CodeBusy {
			t.Fatalf("error is %v", err)
		}
		if d := asked(err); d < want || d > want+want/4+1 {
			t.Errorf("Retry-After %q: it waits %v", header, d)
		}
	}
	if asked(nil) != 0 || asked(errors.New("x")) != 0 {
		t.Error("waits without being asked to")
	}
}

// TestFailuresBackOff counts the attempts of a day without any relay, on a virtual clock.
func TestFailuresBackOff(t *testing.T) {
	p := newPeer(t)
	_, dir := p.joined(t)
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		r := NewRenewer(RenewOptions{Addresses: []string{"relay:7443"}, Dir: dir, Dial: func(context.Context, string, string) (net.Conn, error) {
			tries++
			return nil, errors.New("no route")
		}})
		r.Heard(p.clock.Add(18 * time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		_ = r.Run(ctx)
		// From two seconds to half an hour, and to a minute once the certificate has expired.
		if tries < 8 || tries > 60 {
			t.Errorf("%d attempts in three hours", tries)
		}
		if st := r.Status(); st.FailingSince.IsZero() || !strings.Contains(st.LastError, "no route") {
			t.Errorf("status is %+v", st)
		}
	})
}

// TestSleptThroughARotation is the gateway in store: it knows the old CA only, and its clock may be anywhere before that CA's end. The relay
// has a certificate of the CA's successor's successor, and shows what the old ones have signed for them.
func TestSleptThroughARotation(t *testing.T) {
	for name, clock := range map[string]func(p *peer) time.Time{
		"clock right": func(p *peer) time.Time { return p.clock.AddDate(1, 0, 0) },
		"1970":        func(*peer) time.Time { return time.Unix(100, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t)
			old, dir := p.joined(t)
			first := p.ca
			p.rotate()
			p.rotate()
			r := p.renewer(dir)
			r.opts.now = func() time.Time { return clock(p) }
			if _, err := r.renew(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			now := load(t, dir)
			if now.Issuer() != p.ca.Subject.CommonName {
				t.Errorf("its certificate is of %q", now.Issuer())
			}
			rec, _, err := readRecord(dir, current)
			if err != nil || len(rec.Roots) != 1 {
				t.Fatalf("%d roots (%v)", len(rec.Roots), err)
			}
			if root, err := x509.ParseCertificate(rec.Roots[0]); err != nil || !root.Equal(p.ca) || root.Equal(first) {
				t.Errorf("it trusts %v (%v)", root.Subject, err)
			}
			cfg, err := now.TLSConfig()
			if err != nil || len(cfg.Certificates[0].Certificate) != 1 {
				t.Errorf("it shows %d certificates (%v)", len(cfg.Certificates[0].Certificate), err)
			}

			// A token from before the rotation pins the old CA, and is good.
			other := t.TempDir()
			o := p.options(other)
			o.Token = tokenFor("gw-1", first)
			p.answer = p.enroll
			if _, err := enroll(t, o); err != nil {
				t.Errorf("joining with a token of the old CA: %v", err)
			}
		})
	}
}
