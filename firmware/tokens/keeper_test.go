package tokens

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
)

func TestTokenArrivesAndIsRenewed(t *testing.T) {
	bubble(t, func(g *rig) {
		begin := time.Now()
		var wg sync.WaitGroup
		for range 8 { // who waits for the same token waits for one request
			wg.Go(func() {
				if token, err := g.token(pod, ""); token != "token-1" || err != nil {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(begin); waited > time.Second || g.count() != 1 {
			t.Errorf("waited %v, %d requests", waited, g.count())
		}
		if want := (cloud.TokenRequest{Pod: pod, ServiceAccount: "default", ExpirationSeconds: 3607}); g.asked[0] != want {
			t.Errorf("asked for %+v", g.asked[0])
		}
		if other, err := g.token(pod, "vault"); other != "token-2" || err != nil {
			t.Errorf("another audience: %q, %v", other, err)
		}
		<-g.k.Changed()
		if uids := g.k.Take(); len(uids) != 1 || uids[0] != "u1" {
			t.Errorf("changed %v", uids)
		}
		time.Sleep(2500 * time.Second) // less than 0.72 of the life
		synctest.Wait()
		if g.count() != 2 {
			t.Errorf("%d requests before the tokens are due", g.count())
		}
		time.Sleep(400 * time.Second) // 0.8 of the life are over
		synctest.Wait()
		if g.count() != 4 {
			t.Errorf("%d requests after four fifths of the tokens' life", g.count())
		}
		if token, err := g.token(pod, ""); err != nil || token != "token-3" && token != "token-4" {
			t.Errorf("%q, %v", token, err)
		}
		if uids := g.k.Take(); len(uids) != 1 {
			t.Errorf("nobody hears of the new token: %v", uids)
		}
	})
}

// TestLongTokensAreRenewedDaily as the kubelet does.
func TestLongTokensAreRenewedDaily(t *testing.T) {
	bubble(t, func(g *rig) {
		g.lifetime = 1 << 32
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*24*time.Hour + time.Hour)
		synctest.Wait()
		if n := g.count(); n != 8 {
			t.Errorf("%d requests in a week, want 8", n)
		}
	})
}

// TestOfflineReboot: the token is there without a relay, also when it has expired, which is told once.
func TestOfflineReboot(t *testing.T) {
	bubble(t, func(g *rig) {
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		g.stop()
		g.set(false)
		g.start()
		token, expires, err := g.k.Token(t.Context(), pod, "default", "", 3607)
		if token != "token-1" || err != nil || time.Until(expires) < 3500*time.Second {
			t.Fatalf("%q, %v, %v", token, expires, err)
		}
		time.Sleep(3590 * time.Second)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 0 {
			t.Errorf("told that the token has expired before it has: %v", uids)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 1 {
			t.Errorf("not told that the token has expired")
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if uids := g.k.Take(); len(uids) != 0 {
			t.Errorf("told again")
		}
		if token, expires, err := g.k.Token(t.Context(), pod, "default", "", 3607); token != "token-1" || err != nil || time.Since(expires) < 23*time.Hour {
			t.Errorf("%q, %v, %v", token, expires, err)
		}
		begin := time.Now()
		if token, err := g.token("pods/default/new/u2", ""); token != "" || !errors.Is(err, errOffline) || time.Since(begin) > 0 {
			t.Errorf("%q, %v after %v", token, err, time.Since(begin))
		}
		g.set(true)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, key := range []wire.Key{pod, "pods/default/new/u2"} {
			if token, err := g.token(key, ""); err != nil || token == "token-1" {
				t.Errorf("%s, once the link is back: %q, %v", key, token, err)
			}
		}
		if g.count() != 3 {
			t.Errorf("%d requests, want 3", g.count())
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(g *rig) {
		refusal := cloud.Refusal{Code: cloud.CodeNoAccount, Message: `service account "default/default" does not exist`, Remedy: "create it"}
		g.answer = func(cloud.TokenRequest, int) (any, int) { return refusal, refusal.Code.Status() }
		if _, err := g.token(pod, ""); err == nil || err.Error() != `service account "default/default" does not exist: create it` {
			t.Errorf("%v", err)
		}
		begin := time.Now()
		for range 100 { // whoever asks again meanwhile hears the same at once, and causes nothing
			if _, err := g.token(pod, ""); err == nil {
				t.Fatal("a token")
			}
		}
		if time.Since(begin) > 0 || g.count() != 1 {
			t.Errorf("%v, %d requests", time.Since(begin), g.count())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := g.count(); n < 15 || n > 30 {
			t.Errorf("%d requests in an hour", n)
		}
		if n := strings.Count(g.logText(), "cannot be had"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, g.logText())
		}
		g.mu.Lock()
		g.answer = nil
		g.mu.Unlock()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if token, err := g.token(pod, ""); token == "" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
	})
}

// TestRetryAfter: a relay that is busy says when to come again.
func TestRetryAfter(t *testing.T) {
	bubble(t, func(g *rig) {
		g.answer = func(_ cloud.TokenRequest, n int) (any, int) {
			if n == 1 {
				return cloud.Refusal{Code: cloud.CodeBusy, Message: "too many requests", RetryAfter: 60}, http.StatusTooManyRequests
			}
			return cloud.Token{Token: "x", Lifetime: 3600}, http.StatusOK
		}
		_, _ = g.token(pod, "")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if g.count() != 1 {
			t.Errorf("%d requests within the minute", g.count())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if g.count() != 2 {
			t.Errorf("%d requests after it", g.count())
		}
	})
}

func TestForget(t *testing.T) {
	bubble(t, func(g *rig) {
		for _, key := range []wire.Key{pod, "pods/default/other/u2"} {
			if _, err := g.token(key, ""); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // until they are kept
		if g.store.len() != 2 {
			t.Fatalf("%d tokens are kept", g.store.len())
		}
		g.k.Forget(g.t.Context(), "u1")
		if g.store.len() != 1 {
			t.Errorf("%d tokens are kept after one pod is gone", g.store.len())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for _, r := range g.asked[2:] {
			if r.Pod == pod {
				t.Error("asked for a token of a pod that is gone")
			}
		}
		g.stop()
		g.want = func(uid string) bool { return uid != "u2" } // it was deleted while the agent did not run
		g.start()
		if g.store.len() != 0 {
			t.Errorf("%d tokens are kept that belong to nobody", g.store.len())
		}
	})
}

// TestForgetIsCutShort: an agent that ends does not wait for its store. What stays there is gone when it starts again.
func TestForgetIsCutShort(t *testing.T) {
	bubble(t, func(g *rig) {
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // until it is kept
		over, cancel := context.WithCancel(g.t.Context())
		cancel()
		g.k.Forget(over, "u1")
		if g.store.len() != 1 || !strings.Contains(g.logText(), "stay in the store until the agent starts again") {
			t.Errorf("%d tokens are kept; log:\n%s", g.store.len(), g.logText())
		}
		g.stop()
		g.want = func(string) bool { return false }
		g.start()
		if g.store.len() != 0 {
			t.Errorf("%d tokens are kept that belong to nobody", g.store.len())
		}
	})
}

// TestForgottenWhileAsked leaves nothing behind.
func TestForgottenWhileAsked(t *testing.T) {
	bubble(t, func(g *rig) {
		go func() { _, _ = g.token(pod, "") }()
		time.Sleep(50 * time.Millisecond)
		g.k.Forget(g.t.Context(), "u1")
		time.Sleep(time.Second)
		synctest.Wait()
		if g.store.len() != 0 || len(g.k.Take()) != 0 {
			t.Errorf("%d tokens are kept of a pod that is gone", g.store.len())
		}
	})
}

func TestManyPodsAtOnce(t *testing.T) {
	bubble(t, func(g *rig) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if token, err := g.token(wire.NewKey(wire.KindPod, "default", fmt.Sprint("p", i), fmt.Sprint("u", i)), ""); token == "" || err != nil {
					t.Errorf("%q, %v", token, err)
				}
			})
		}
		wg.Wait()
		if g.most > workers || g.count() != 40 {
			t.Errorf("%d requests at once, %d in all", g.most, g.count())
		}
	})
}
