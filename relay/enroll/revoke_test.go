package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry/skerry/firmware/wire/join"
)

// watching runs a relay's view of the list in c until the test ends.
func watching(t *testing.T, c *fake.Clientset) (*Revocations, chan string) {
	t.Helper()
	events := make(chan string, 16)
	r := NewRevocations(c, nil, func(node string) { events <- node })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	return r, events
}

func withList(t *testing.T) *fake.Clientset {
	t.Helper()
	c := cluster(t)
	if created, err := InitRevoked(t.Context(), c); err != nil || !created {
		t.Fatalf("InitRevoked = %v, %v", created, err)
	}
	return c
}

func TestRevocations(t *testing.T) {
	c := withList(t)
	r, events := watching(t, c)
	waitFor(t, r.Synced)
	now := time.Now()
	if err := Restore(t.Context(), c, "gw-1", false, now); !errors.Is(err, ErrNotRevoked) {
		t.Errorf("Restore = %v", err)
	}
	for _, node := range []string{"gw-1", "gw-2.site"} {
		if err := Revoke(t.Context(), c, node, "stolen", now); err != nil {
			t.Fatal(err)
		}
		if got := <-events; got != node || !r.Revoked(node) || r.Refused(node, now.Add(time.Hour)) == "" {
			t.Errorf("told of %q, want %q; revoked %v", got, node, r.Revoked(node))
		}
	}
	if err := Restore(t.Context(), c, "gw-1", false, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := <-events; got != "gw-1" || r.Revoked("gw-1") {
		t.Errorf("told of %q; revoked %v", got, r.Revoked("gw-1"))
	}
	old, fresh := now.Add(-nodeBackdate), r.NotBefore("gw-1").Add(time.Second)
	if why := r.Refused("gw-1", old); !strings.Contains(why, "before node gw-1 was revoked") {
		t.Errorf("a certificate from before the revocation: %q", why)
	}
	if why := r.Refused("gw-1", fresh); why != "" {
		t.Errorf("a certificate from after the restoration: %s", why)
	}
	if err := Restore(t.Context(), c, "gw-2.site", true, now); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return r.Refused("gw-2.site", old) == "" })
	if r.Revoked("gw-3") || r.Problem() != nil {
		t.Errorf("gw-3 is revoked, or there is a problem: %v", r.Problem())
	}
}

// TestRestoredNeedsAToken goes through it with a real gateway: the stolen key stays worthless, in a session and in a renewal, also
// with the token that it joined with; and a relay whose clock differs by less than half an hour gives certificates that are good.
func TestRestoredNeedsAToken(t *testing.T) {
	for _, skew := range []time.Duration{-25 * time.Minute, 0, 25 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			var list *Revocations
			r := startRelay(t, func(o *Options) {
				if _, err := InitRevoked(t.Context(), o.Client); err != nil {
					t.Fatal(err)
				}
				list, _ = watching(t, o.Client.(*fake.Clientset))
				waitFor(t, list.Synced)
				o.Revoked = list
				o.Now = func() time.Time { return time.Now().Add(skew) }
			})
			tok, dir := r.token(t, "gw-1"), t.TempDir()
			id, err := r.join(t, tok, dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := Revoke(t.Context(), r.client, "gw-1", "stolen", time.Now()); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return list.Revoked("gw-1") })
			if err := Restore(t.Context(), r.client, "gw-1", false, time.Now()); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return !list.Revoked("gw-1") })
			cert, key := credentials(t, id)
			if list.Refused("gw-1", cert.NotBefore) == "" {
				t.Error("the old certificate opens sessions again")
			}
			var refusal *join.Refusal
			if err := r.mayHave("gw-1", cert.NotBefore); !errors.As(err, &refusal) || refusal.Code != join.CodeRevoked || !strings.Contains(refusal.Remedy, "token create --node gw-1") {
				t.Errorf("a renewal with the old certificate: %v", err)
			}
			if _, err := r.join(t, tok, dir); !errors.As(err, &refusal) || refusal.Code != join.CodeUnknownToken {
				t.Errorf("joining with the token that the stolen key is bound to: %v", err)
			}
			again, err := r.join(t, r.token(t, "gw-1"), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			now, nowKey := credentials(t, again)
			if why := list.Refused("gw-1", now.NotBefore); why != "" || nowKey.Equal(key) {
				t.Errorf("the new certificate begins at %v: %s", now.NotBefore, why)
			}
			if at := time.Now().Add(skew); at.Before(now.NotBefore) {
				t.Errorf("it is not valid yet: %v from now", now.NotBefore.Sub(at))
			}
		})
	}
}

// TestListDeleted: nobody is restored by it, neither then, nor when an empty one is made in its place.
func TestListDeleted(t *testing.T) {
	c := withList(t)
	r, events := watching(t, c)
	if err := Revoke(t.Context(), c, "gw-1", "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	<-events
	if err := c.CoreV1().ConfigMaps(Namespace).Delete(t.Context(), RevokedMap, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return errors.Is(r.Problem(), ErrNoRevoked) })
	if !r.Revoked("gw-1") || !r.Synced() {
		t.Error("a deleted list restores its nodes, or stops the relay")
	}
	if err := Revoke(t.Context(), c, "gw-2", "", time.Now()); !errors.Is(err, ErrNoRevoked) {
		t.Errorf("Revoke without a list = %v", err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RevokedMap, Namespace: Namespace, UID: types.UID("another")}}
	if _, err := c.CoreV1().ConfigMaps(Namespace).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return r.Problem() == nil })
	if !r.Revoked("gw-1") {
		t.Error("an empty list in the place of a deleted one restores its nodes")
	}
	if err := Revoke(t.Context(), c, "gw-1", "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), c, "gw-1", true, time.Now()); err != nil {
		t.Fatal(err)
	}

	fresh, _ := watching(t, cluster(t)) // a relay that starts without a list
	waitFor(t, func() bool { return errors.Is(fresh.Problem(), ErrNoRevoked) })
	if fresh.Synced() {
		t.Error("a relay that starts without a list believes that nobody is revoked")
	}
}

func TestParseRevocation(t *testing.T) {
	at := time.Date(2026, 11, 23, 0, 18, 26, 0, time.UTC)
	for text, want := range map[string]Revocation{
		`{"revoked":"2026-11-23T00:18:26Z","reason":"x","notBefore":"2026-11-23T00:00:00Z","hue":1}`: {Revoked: at, Reason: "x", NotBefore: at.Truncate(time.Hour)},
		`2026-11-23T00:18:26Z sold`: {Revoked: at, Reason: "sold", NotBefore: at.Add(-restoreMargin)},
		`by hand`:                   {Reason: "by hand"},
		``:                          {},
	} {
		if got := parseRevocation(text); got != want {
			t.Errorf("%q = %+v, want %+v", text, got, want)
		}
	}
	for _, text := range []string{"", "by hand", "{}", "null", "{", `{"restored":"2026-11-23T00:18:26Z"}`, `{"revoked":7}`} {
		if !parseRevocation(text).refuses(at) {
			t.Errorf("%q revokes nobody", text)
		}
	}
}

func FuzzParseRevocation(f *testing.F) {
	f.Add(`{"revoked":"2026-11-23T00:18:26Z","notBefore":"2026-11-23T00:00:00Z","restored":"2026-11-23T00:20:00Z"}`)
	f.Add(`2026-11-23T00:18:26Z sold`)
	f.Fuzz(func(t *testing.T, text string) {
		if r := parseRevocation(text); !r.refuses(r.NotBefore) || r.Restored.IsZero() && !r.refuses(r.NotBefore.Add(time.Hour)) {
			t.Errorf("%+v refuses too little", r)
		}
	})
}

// TestListIsBounded fills the list: the API server must never be the one to refuse a revocation.
func TestListIsBounded(t *testing.T) {
	c := withList(t)
	maps := c.CoreV1().ConfigMaps(Namespace)
	now := time.Now()
	cm, err := maps.Get(t.Context(), RevokedMap, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data = map[string]string{}
	value := func(at time.Time) string {
		v, err := Revocation{Revoked: at.UTC().Truncate(time.Second), Reason: "stolen from the depot", NotBefore: at.UTC().Truncate(time.Second)}.encode()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for n := 0; revokedSize(cm.Data) < maxRevokedBytes-200; n++ {
		cm.Data[fmt.Sprintf("gw-plant-%011d", n)] = value(now)
	}
	t.Logf("%d entries fit", len(cm.Data))
	if len(cm.Data) < 6500 {
		t.Errorf("only %d entries fit", len(cm.Data))
	}
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = Revoke(t.Context(), c, fmt.Sprintf("one-more-%d", time.Now().UnixNano()), "", now)
	}
	if !errors.Is(err, ErrRevokedFull) || !strings.Contains(err.Error(), "node prune") || !strings.Contains(err.Error(), "the node is not revoked") {
		t.Errorf("a full list: %v", err)
	}
	if full, err := ListRevoked(t.Context(), c); err != nil || len(full) < len(cm.Data) {
		t.Errorf("%d of %d are revoked still, %v", len(full), len(cm.Data), err)
	}
	cm.Data["gw-plant-00000000000"] = value(now.Add(-PruneAfter - time.Hour))
	cm.Data["gw-plant-00000000001"] = value(now.Add(-PruneAfter + time.Hour))
	if _, err := maps.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 { // forgets the one that is old enough
		if err = Revoke(t.Context(), c, fmt.Sprintf("more-%d", time.Now().UnixNano()), strings.Repeat("x", 100), now); err != nil {
			break
		}
	}
	list, listErr := ListRevoked(t.Context(), c)
	if listErr != nil {
		t.Fatal(listErr)
	}
	if _, ok := list["gw-plant-00000000000"]; ok {
		t.Error("an entry that nobody needs keeps others out")
	}
	if _, ok := list["gw-plant-00000000001"]; !ok {
		t.Error("an entry is gone that may still be needed")
	}
	if err := Revoke(t.Context(), c, "gw-1", strings.Repeat("x", maxReason+1), now); err == nil {
		t.Error("a reason of any length")
	}
}

// TestAbsence: what was revoked longer ago than certificates can be renewed may be forgotten.
func TestAbsence(t *testing.T) {
	type try struct {
		later time.Duration
		want  int
	}
	for life, tries := range map[time.Duration][]try{
		DefaultLifetime:           {{DefaultLifetime + DefaultAbsence - day, 200}, {DefaultLifetime + DefaultAbsence + day, 403}},
		MaxLifetime:               {{MaxLifetime + DefaultAbsence - day, 200}, {PruneAfter, 403}},
		10 * 365 * 24 * time.Hour: {{PruneAfter, 403}}, // no certificate is made that outlives what was said of it
	} {
		later := time.Duration(0)
		r := startRelay(t, func(o *Options) { o.Lifetime, o.Now = life, func() time.Time { return time.Now().Add(later) } })
		id, _ := r.joined(t, "gw-1")
		cert, key := credentials(t, id)
		for _, c := range tries {
			later = c.later
			status, _, answer := r.post(t, http.MethodPost, func(cs *tls.ConnectionState) []byte { return renewal(t, cs, cert, key) })
			if status != c.want {
				t.Errorf("certificates of %v, %v later: %d %s", life, c.later, status, answer)
			}
		}
	}
}
