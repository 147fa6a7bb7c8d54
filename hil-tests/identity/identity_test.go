//go:build integration

package identity

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/relay/overview"
)

// TestFleetOverYears is the life of a fleet: join, renew, replace the CA, wake up late, lose a gateway, lose the CA's key.
func TestFleetOverYears(t *testing.T) {
	w := newWorld(t)
	all := w.fleet.Agents()
	w.await("in sync", all, fleet.InSync)
	if err := w.cluster.AwaitNodes(t.Context(), gateways, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Create(t.Context(), w.work, fleet.Names("gw", gateways), nil); err != nil {
		t.Fatal(err)
	}
	w.await("given their objects", all, fleet.Holds(w.work.Objects()))
	if err := w.stack.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.stack.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	sleeper := w.enrol("gw-sleeper", strings.TrimSpace(w.ctl("token", "create", "--node", "gw-sleeper")))

	began := time.Now()
	stop := w.load()
	first := w.authorities().Authorities[0].Name
	w.eventually("each has renewed its certificate under load", func() (bool, string) {
		for _, g := range w.gw {
			if g.name != sleeper.Node && g.renewer.Status().Renewed == 0 {
				return false, g.name + ": " + g.renewer.Status().LastError
			}
		}
		return true, ""
	})
	w.rotate(first)
	w.sleeperWakes(sleeper, first)
	changes := stop()

	watch := w.fleet.Watch(fleet.Everyone())
	if err := w.cluster.SetConfigMap(t.Context(), fleet.Everyone(), changes+1, w.work.Bytes); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := watch.Wait(ctx, 0); err != nil {
		t.Error(err)
	}
	tally, breach := w.fleet.Tally()
	if breach != "" {
		t.Error(breach)
	}
	var sessions, renewals uint64
	for _, a := range all {
		sessions += a.Status().Sessions
		renewals += w.gw[a.Name].renewer.Status().Renewed
	}
	t.Logf("in %v: %d changes to %d gateways, %+v; %d certificates renewed, %d sessions (%.1f for each gateway)", time.Since(began).Round(time.Second), changes,
		gateways, tally, renewals, sessions, float64(sessions)/gateways)
	if least := uint64(gateways * 2); renewals < least {
		t.Errorf("%d renewals under load, want %d at the least", renewals, least)
	}
	w.revoke()
	w.stolenCA()
}

func (w *world) authorities() (cas overview.CAs) {
	w.t.Helper()
	out := w.ctl("ca", "status", "-o", "json")
	if err := json.Unmarshal([]byte(out), &cas); err != nil || len(cas.Authorities) == 0 {
		w.t.Fatalf("%s: %v", out, err)
	}
	return cas
}

// rotate replaces the CA while certificates rotate and changes fan out. Nobody is touched by hand.
func (w *world) rotate(first string) {
	w.t.Helper()
	w.ctl("ca", "rotate")
	w.tell()
	second := w.authorities().Authorities[0].Name
	if second == first {
		w.t.Fatal("the CA is the old one")
	}
	if _, err := w.stack.Ctl(w.t.Context(), "ca", "finish"); err == nil || !strings.Contains(err.Error(), "no certificate of the new CA yet") {
		w.t.Errorf("finish at once = %v", err)
	}
	w.eventually("all have certificates of the new CA", func() (bool, string) {
		w.tell()
		cas := w.authorities()
		left := cas.Dependent()
		return len(left) == 0, overview.Few(left)
	})
	w.t.Logf("skerryctl ca status:\n%s", w.ctl("ca", "status"))
	for _, a := range w.fleet.Agents() {
		if got := w.gw[a.Name].issuer(w.t); got != second {
			w.t.Errorf("%s has a certificate of %s", a.Name, got)
		}
	}
	w.ctl("ca", "finish")
	if cas := w.authorities(); len(cas.Authorities) != 2 || !cas.Rotating.IsZero() {
		w.t.Errorf("after finish: %+v", cas)
	}
	w.await("in sync after the rotation", w.fleet.Agents(), fleet.InSync)
}

// sleeperWakes: it knows the old CA only, its certificate is of that one and has expired.
func (w *world) sleeperWakes(id fleet.Identity, first string) {
	w.t.Helper()
	g := w.gw[id.Node]
	if g.issuer(w.t) != first {
		w.t.Fatal("the sleeper was not of the old CA")
	}
	late, err := fleet.New(fleet.Options{Addresses: w.addresses(), Roots: w.cluster.CA.Pool(), Identities: []fleet.Identity{id}, MaxBackoff: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.renew(g)
	late.Start()
	w.t.Cleanup(late.Stop)
	w.await("the sleeper is in sync", late.Agents(), fleet.InSync)
	if g.issuer(w.t) == first {
		w.t.Error("the sleeper is in sync with a certificate of the old CA")
	}
}

// refused dials every relay with the certificate in dir, as a thief would, and wants no session of any.
func (w *world) refused(dir string) {
	w.t.Helper()
	id, err := identity.Load(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, at := range w.addresses() {
		cfg, err := id.TLSConfig()
		if err != nil {
			w.t.Fatal(err)
		}
		conn, err := (&tls.Dialer{Config: cfg}).DialContext(w.t.Context(), "tcp", at)
		if err == nil { // TLS 1.3: a client learns what the server thinks of its certificate when it reads
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(conn, "GET /v1/link HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err = io.ReadAll(conn)
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "tls: ") {
			w.t.Errorf("relay %s answers a revoked node's certificate: %v", at, err)
		}
	}
}

// revoke takes a gateway out at all relays, and lets it in again with a new key only.
func (w *world) revoke() {
	w.t.Helper()
	const name = "gw-00003"
	g, a := w.gw[name], w.agent(name)
	began := time.Now()
	w.ctl("node", "revoke", name, "--reason", "stolen")
	asked := time.Since(began)
	w.await("out", []*fleet.Agent{a}, fleet.Gone)
	w.t.Logf("revoked: the session was over %v after the command began, which took %v", time.Since(began), asked)
	w.refused(g.dir)
	g.renewer.Refused()
	w.eventually("the renewal is refused", func() (bool, string) {
		text := g.renewer.Status().LastError
		return strings.Contains(text, string(join.CodeRevoked)), text
	})
	w.ctl("node", "restore", name)
	w.eventually("the old key stays refused", func() (bool, string) {
		text := g.renewer.Status().LastError
		return strings.Contains(text, "was revoked"), text
	})
	w.refused(g.dir)
	if a.Status().Connected {
		w.t.Error("the old key is connected")
	}
	g.sleep()
	id := w.enrol(name, strings.TrimSpace(w.ctl("token", "create", "--node", name)))
	again, err := fleet.New(fleet.Options{Addresses: w.addresses(), Roots: w.cluster.CA.Pool(), Identities: []fleet.Identity{id}, MaxBackoff: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	w.renew(w.gw[name])
	again.Start()
	w.await("in sync with a new key", again.Agents(), fleet.InSync)
	again.Stop()
}

// stolenCA replaces the CA without any bridge from the old one.
func (w *world) stolenCA() {
	w.t.Helper()
	w.ctl("ca", "rotate", "--compromised", "--yes")
	w.await("out", w.fleet.Agents(), func(_ *fleet.Agent, st link.Status) bool { return !st.Connected })
	w.eventually("a gateway says what is wrong", func() (bool, string) {
		text := w.fleet.Agents()[0].Status().LastError
		return strings.Contains(text, "not signed by the CA"), text
	})
	id := w.enrol("gw-00005", strings.TrimSpace(w.ctl("token", "create", "--node", "gw-00005")))
	fresh, err := fleet.New(fleet.Options{Addresses: w.addresses(), Roots: w.cluster.CA.Pool(), Identities: []fleet.Identity{id}, MaxBackoff: time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	fresh.Start()
	w.await("in sync after joining anew", fresh.Agents(), fleet.InSync)
	fresh.Stop()
}
