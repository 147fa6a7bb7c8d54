package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
)

// record is how a token is kept.
type record struct {
	Pod      wire.Key  `json:"pod"`
	Account  string    `json:"serviceAccount"`
	Audience string    `json:"audience"`
	Seconds  int64     `json:"expirationSeconds"`
	Token    string    `json:"token"`
	Received time.Time `json:"received"` // by this gateway's clock
	Lifetime int64     `json:"lifetime"` // seconds from Received on
}

// prefix is that of the keys of tokens in the store.
const prefix = "token/"

// key is where the token is kept: after its pod, so that all of a pod are together.
func (r request) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d", r.pod, r.account, r.audience, r.seconds))
	return prefix + r.pod.UID() + "/" + hex.EncodeToString(sum[:8])
}

func (k *Keeper) save(ctx context.Context, r request, t cloud.Token, now time.Time) error {
	b, err := json.Marshal(record{
		Pod: r.pod, Account: r.account, Audience: r.audience, Seconds: r.seconds,
		Token: t.Token, Received: now.Round(0), Lifetime: t.Lifetime,
	})
	if err != nil {
		return err
	}
	return k.opt.Store.Put(ctx, r.key(), b)
}

// load reads what is kept, and removes what belongs to no pod, and what cannot be read.
func (k *Keeper) load(ctx context.Context) error {
	var stale []string
	now := time.Now()
	err := k.opt.Store.Scan(prefix, func(key string, b []byte) error {
		e, err := decode(b, now)
		switch {
		case err != nil:
			k.log.Warn("a service account token that was kept cannot be read; it is asked for anew", "key", key, "error", err)
			stale = append(stale, key)
		case e.key() != key || k.opt.Wanted != nil && !k.opt.Wanted(e.pod.UID()):
			stale = append(stale, key)
		default:
			k.entries[e.request] = e
		}
		return nil
	})
	if err != nil || len(stale) == 0 {
		return err
	}
	if err := k.opt.Store.Delete(ctx, stale...); err != nil {
		k.log.Warn("tokens of pods that are gone stay in the store", "error", err)
	}
	return nil
}

// decode makes an entry of a record. Its age is what the clock says; a clock that has gone back says nothing.
func decode(b []byte, now time.Time) (*entry, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	pod, err := wire.ParseKey(string(r.Pod))
	if err != nil || pod.Kind() != wire.KindPod || r.Token == "" || r.Lifetime <= 0 {
		return nil, errors.New("it is not complete")
	}
	e := &entry{request: request{pod, r.Account, r.Audience, r.Seconds}, token: r.Token}
	if now.Before(r.Received) {
		return e, nil
	}
	life := lifetime(r.Lifetime)
	e.ends, e.due = r.Received.Add(life), r.Received.Add(min(life/5*4, renewMost)*9/10)
	return e, nil
}

// lifetime is that of a token, within what can be counted.
func lifetime(seconds int64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	return time.Duration(min(seconds, int64(most/time.Second))) * time.Second
}
