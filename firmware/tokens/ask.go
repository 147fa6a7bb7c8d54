package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/skerry/skerry/firmware/wire/cloud"
)

// ask asks the relay for one token, and keeps it.
func (k *Keeper) ask(ctx context.Context, client *http.Client, e *entry) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	t, err := exchange(limited, client, e.request)
	now := time.Now()
	if ctx.Err() != nil && err != nil {
		err = errPending // the agent ends; that is nobody's fault
	}
	if !k.settle(e, t, err, now) {
		return
	}
	if err := k.save(ctx, e.request, t, now); err != nil {
		k.log.Warn("a service account token is not kept: after a reboot its pod waits for the relay", "pod", e.pod, "error", err)
		return
	}
	k.log.Debug("service account token", "pod", e.pod, "service_account", e.account, "audience", e.audience, "expires", t.Expires)
	k.mu.Lock()
	gone := e.gone
	k.mu.Unlock()
	if gone { // while it was being written
		if err := k.opt.Store.Delete(ctx, e.key()); err != nil {
			k.log.Warn("a token of a pod that is gone stays in the store until the agent starts again", "pod", e.pod, "error", err)
		}
	}
}

func exchange(ctx context.Context, client *http.Client, r request) (cloud.Token, error) {
	body, err := json.Marshal(cloud.TokenRequest{Pod: r.pod, ServiceAccount: r.account, Audience: r.audience, ExpirationSeconds: r.seconds})
	if err != nil {
		return cloud.Token{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://relay"+cloud.TokenPath, bytes.NewReader(body))
	if err != nil {
		return cloud.Token{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return cloud.Token{}, fmt.Errorf("ask the relay: %w", errors.Unwrap(err)) // without the URL, which says nothing
	}
	defer resp.Body.Close()
	t, err := cloud.ReadTokenAnswer(resp.StatusCode, resp.Body)
	if _, refused := errors.AsType[*cloud.Refusal](err); err != nil && !refused {
		return cloud.Token{}, fmt.Errorf("the relay's answer: %w", err)
	}
	return t, err
}
