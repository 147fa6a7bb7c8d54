package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Service is the name of the streams that agents open.
const Service = wire.ServiceCloud

// TokenPath is where a relay takes requests for tokens (POST).
const TokenPath = "/v1/token"

// Limits of bodies, in bytes. A token is a JWT of about 1 KiB; one with many audiences or a large key has some KiB.
const (
	MaxRequest = 4 << 10
	MaxAnswer  = 64 << 10
)

// TokenRequest asks for one of the service account tokens that a pod's projected volumes name.
type TokenRequest struct {
	Pod               wire.Key `json:"pod"`               // of a pod, with its UID
	ServiceAccount    string   `json:"serviceAccount"`    // the one that the agent believes the pod to have
	Audience          string   `json:"audience"`          // "": the API server
	ExpirationSeconds int64    `json:"expirationSeconds"` // as the volume says
}

// Check says what is wrong with a request, whoever sent it.
func (r *TokenRequest) Check() error {
	key, err := wire.ParseKey(string(r.Pod))
	switch {
	case err != nil || key.Kind() != wire.KindPod:
		return errors.New("pod is not the key of a pod with its UID")
	case r.ServiceAccount == "":
		return errors.New("serviceAccount is missing")
	case r.ExpirationSeconds <= 0:
		return errors.New("expirationSeconds must be positive")
	}
	return nil
}

// Token is a service account token, bound to its pod.
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"` // by the API server's clock
	// Lifetime is how long from now on the token is valid, in seconds, by the relay's clock: a gateway's own may be wrong.
	Lifetime int64 `json:"lifetime"`
}

// Code is a reason to refuse, for programs.
type Code string

// The reasons for which a relay gives no token.
const (
	CodeBadRequest  Code = "bad_request"           // not JSON, or a field is missing
	CodeNotYours    Code = "not_this_nodes_pod"    // no such pod is bound to the node: gone, another's, or not known to this relay yet
	CodeEnded       Code = "pod_ended"             // the pod has succeeded or failed
	CodeNotNamed    Code = "not_named_by_pod"      // another service account than the pod's, or no volume of the pod asks for such a token
	CodeNoAccount   Code = "no_service_account"    // the service account does not exist
	CodeForbidden   Code = "relay_not_allowed"     // the API server forbids it to the relay
	CodeRefused     Code = "refused_by_kubernetes" // the API server says that the request is wrong
	CodeBusy        Code = "too_many_requests"     // try again later
	CodeUnavailable Code = "unavailable"           // the relay cannot reach Kubernetes; try again later
)

// Status returns the HTTP status that goes with the code.
func (c Code) Status() int {
	switch c {
	case CodeNotYours, CodeEnded, CodeNotNamed:
		return http.StatusForbidden
	case CodeNoAccount:
		return http.StatusNotFound
	case CodeForbidden, CodeRefused:
		return http.StatusBadGateway
	case CodeBusy:
		return http.StatusTooManyRequests
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// Refusal is the relay's answer when it gives no token, and the agent's error.
type Refusal struct {
	Code       Code   `json:"code"`
	Message    string `json:"message"`              // what is wrong
	Remedy     string `json:"remedy"`               // what the operator can do
	RetryAfter int64  `json:"retryAfter,omitempty"` // seconds
}

// Error says all in one line.
func (r *Refusal) Error() string {
	if r.Remedy == "" {
		return r.Message
	}
	return r.Message + ": " + r.Remedy
}

// ReadTokenRequest reads and checks a request of at most MaxRequest bytes.
func ReadTokenRequest(from io.Reader) (r TokenRequest, err error) {
	if err := read(from, MaxRequest, &r); err != nil {
		return TokenRequest{}, err
	}
	return r, r.Check()
}

// ReadTokenAnswer reads the answer to a request, of at most MaxAnswer bytes. A refusal is an error of type *Refusal.
func ReadTokenAnswer(status int, from io.Reader) (t Token, err error) {
	if status != http.StatusOK {
		refusal := new(Refusal)
		if err := read(from, MaxAnswer, refusal); err != nil || refusal.Message == "" {
			return Token{}, fmt.Errorf("the relay answers with status %d", status)
		}
		return Token{}, refusal
	}
	if err := read(from, MaxAnswer, &t); err != nil {
		return Token{}, err
	}
	if t.Token == "" || t.Lifetime <= 0 {
		return Token{}, errors.New("the relay's answer has no token that is valid")
	}
	return t, nil
}

func read(from io.Reader, limit int64, into any) error {
	b, err := io.ReadAll(io.LimitReader(from, limit+1))
	switch {
	case err != nil:
		return err
	case int64(len(b)) > limit:
		return fmt.Errorf("body has more than %d bytes", limit)
	}
	return json.Unmarshal(b, into)
}
