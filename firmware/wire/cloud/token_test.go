package cloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTokenRequest(t *testing.T) {
	want := TokenRequest{Pod: "pods/default/web/u1", ServiceAccount: "default", Audience: "vault", ExpirationSeconds: 3600}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadTokenRequest(bytes.NewReader(b)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for text, wrong := range map[string]string{
		``:   "unexpected end",
		`[]`: "cannot unmarshal",
		`{"pod":"pods/default/web","serviceAccount":"a","expirationSeconds":600}`:     "not the key of a pod",
		`{"pod":"secrets/default/web","serviceAccount":"a","expirationSeconds":600}`:  "not the key of a pod",
		`{"pod":"pods//web/u1","serviceAccount":"a","expirationSeconds":600}`:         "not the key of a pod",
		`{"pod":"pods/default/web/u1","expirationSeconds":600}`:                       "serviceAccount is missing",
		`{"pod":"pods/default/web/u1","serviceAccount":"a","expirationSeconds":-1}`:   "must be positive",
		`{"pod":"pods/default/web/u1","serviceAccount":"a","expirationSeconds":1e99}`: "cannot unmarshal",
		`{"pod":"` + strings.Repeat("x", MaxRequest) + `"}`:                           "more than 4096 bytes",
	} {
		if _, err := ReadTokenRequest(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%.80s: %v, want %s", text, err, wrong)
		}
	}
}

func TestTokenAnswer(t *testing.T) {
	want := Token{Token: "ey.x.y", Expires: time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC), Lifetime: 3599}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadTokenAnswer(http.StatusOK, bytes.NewReader(b)); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for code := range map[Code]bool{CodeBadRequest: true, CodeNotYours: true, CodeEnded: true, CodeNotNamed: true, CodeNoAccount: true,
		CodeForbidden: true, CodeRefused: true, CodeBusy: true, CodeUnavailable: true} {
		sent := Refusal{Code: code, Message: "no", Remedy: "do this", RetryAfter: 3}
		b, err := json.Marshal(sent)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadTokenAnswer(code.Status(), bytes.NewReader(b))
		if got, ok := errors.AsType[*Refusal](err); !ok || *got != sent || got.Error() != "no: do this" || code.Status() < 400 {
			t.Errorf("%s: %v", code, err)
		}
	}
	for text, status := range map[string]int{`{}`: 200, `{"token":"x"}`: 200, `{"token":"x","lifetime":-5}`: 200, ``: 500, `<html>`: 502, `{"code":"x"}`: 400} {
		if _, err := ReadTokenAnswer(status, strings.NewReader(text)); err == nil {
			t.Errorf("%q with status %d is taken for a token", text, status)
		}
	}
	if _, err := ReadTokenAnswer(200, strings.NewReader(`{"token":"`+strings.Repeat("x", MaxAnswer)+`"}`)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a long answer: %v", err)
	}
}

func FuzzTokenRequest(f *testing.F) {
	f.Add([]byte(`{"pod":"pods/default/web/u1","serviceAccount":"default","audience":"vault","expirationSeconds":3600}`))
	f.Add([]byte(`{"pod":"pods/default/web"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ReadTokenRequest(bytes.NewReader(b)); err == nil && r.Check() != nil {
			t.Errorf("%q is accepted", b)
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, []byte(`{"token":"x","expires":"2026-11-23T05:00:00Z","lifetime":3600}`))
	f.Add(403, []byte(`{"code":"pod_ended","message":"no","remedy":"none"}`))
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		if a, err := ReadTokenAnswer(status, bytes.NewReader(b)); err == nil && (a.Token == "" || a.Lifetime <= 0 || status != 200) {
			t.Errorf("%d %q is taken for a token", status, b)
		}
	})
}
