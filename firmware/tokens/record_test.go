package tokens

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockThatHasGoneBack makes a token due that is dated after now.
func TestClockThatHasGoneBack(t *testing.T) {
	bubble(t, func(g *rig) {
		if _, err := g.token(pod, ""); err != nil {
			t.Fatal(err)
		}
		g.stop()
		for key, b := range g.store.records {
			var r record
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			r.Received = time.Now().Add(50 * 365 * 24 * time.Hour)
			g.store.records[key], _ = json.Marshal(r)
		}
		g.start()
		if token, err := g.token(pod, ""); token != "token-1" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if token, err := g.token(pod, ""); token != "token-2" || err != nil || g.count() != 2 {
			t.Errorf("%q, %v, %d requests", token, err, g.count())
		}
	})
}

// TestStoreThatCannotWrite does not keep the pod from its token.
func TestStoreThatCannotWrite(t *testing.T) {
	bubble(t, func(g *rig) {
		g.store.fails = errors.New("no space left on device")
		if token, err := g.token(pod, ""); token != "token-1" || err != nil {
			t.Errorf("%q, %v", token, err)
		}
		g.stop()
		if !strings.Contains(g.logText(), "no space left on device") {
			t.Error("nobody hears of it")
		}
	})
}

func TestDamagedRecord(t *testing.T) {
	bubble(t, func(g *rig) {
		g.stop()
		g.store.records["token/u1/0011"] = []byte("{")
		g.store.records["token/u1/0022"] = []byte(`{"pod":"pods/default/web/u1","token":"x","lifetime":5}`) // under another's key
		g.start()
		if g.store.len() != 0 {
			t.Errorf("%v are kept", g.store.records)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"pod":"pods/default/web/u1","serviceAccount":"default","expirationSeconds":3607,"token":"x","received":"2026-11-23T04:00:00Z","lifetime":3607}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b, time.Unix(1e9, 0))
		if err == nil && (e.token == "" || e.pod.UID() == "") {
			t.Errorf("%q gives %+v", b, e)
		}
	})
}
