package cloud

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	contract "github.com/skerry/skerry/firmware/wire/cloud"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// defaultLife is what Kubernetes gives a volume that does not say how long its tokens live, in seconds.
const defaultLife = 3600

// MaxTokenLife bounds the tokens that a relay asks for, in seconds: a year. The admission policy for its account holds it to that (relay/setup).
const MaxTokenLife = 365 * 24 * 3600

// issue has Kubernetes make a token, if the node may have it.
func (s *Server) issue(ctx context.Context, node string, r *contract.TokenRequest) (*contract.Token, *contract.Refusal) {
	if refusal := s.check(node, r); refusal != nil {
		return nil, refusal
	}
	life := min(r.ExpirationSeconds, MaxTokenLife) // the agent renews by what it is told
	want := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &life,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: r.Pod.Name(), UID: types.UID(r.Pod.UID()),
		},
	}}
	if r.Audience != "" {
		want.Spec.Audiences = []string{r.Audience}
	}
	got, err := s.opts.Accounts.ServiceAccounts(r.Pod.Namespace()).CreateToken(ctx, r.ServiceAccount, want, metav1.CreateOptions{})
	if err != nil {
		return nil, explain(r, err)
	}
	if got.Spec.ExpirationSeconds != nil { // the API server may have shortened it
		life = *got.Spec.ExpirationSeconds
	}
	return &contract.Token{Token: got.Status.Token, Expires: got.Status.ExpirationTimestamp.Time, Lifetime: life}, nil
}

// check says why the node may not have the token.
func (s *Server) check(node string, r *contract.TokenRequest) *contract.Refusal {
	body, phase, ok := s.opts.Pods.BoundPod(node, r.Pod)
	if !ok {
		return &contract.Refusal{Code: contract.CodeNotYours, Message: fmt.Sprintf("no pod %s is bound to node %s", short(r), node), Remedy: "none, if it has just been made or deleted", RetryAfter: 1}
	}
	if phase == "Succeeded" || phase == "Failed" {
		return &contract.Refusal{Code: contract.CodeEnded, Message: fmt.Sprintf("pod %s has ended (%s)", short(r), phase)}
	}
	var pod corev1.Pod
	if _, err := pod.UnmarshalMsg(body); err != nil {
		return &contract.Refusal{Code: contract.CodeRefused, Message: fmt.Sprintf("pod %s cannot be decoded: %v", short(r), err), Remedy: "it may be from a newer Kubernetes than this relay knows"}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	if r.ServiceAccount != account {
		return &contract.Refusal{Code: contract.CodeNotNamed, Message: fmt.Sprintf("pod %s runs as service account %q, not as %q", short(r), account, clip(r.ServiceAccount))}
	}
	for i := range pod.Spec.Volumes {
		p := pod.Spec.Volumes[i].Projected
		if p == nil {
			continue
		}
		for j := range p.Sources {
			t := p.Sources[j].ServiceAccountToken
			if t != nil && t.Audience == r.Audience && life(t) == r.ExpirationSeconds {
				return nil
			}
		}
	}
	return &contract.Refusal{Code: contract.CodeNotNamed, Message: fmt.Sprintf("no volume of pod %s asks for a token for audience %q of %d s", short(r), clip(r.Audience), r.ExpirationSeconds)}
}

func life(t *corev1.TokenProjection) int64 {
	if t.ExpirationSeconds == nil {
		return defaultLife
	}
	return *t.ExpirationSeconds
}

// explain turns the API server's refusal into one that says what is missing.
func explain(r *contract.TokenRequest, err error) *contract.Refusal {
	account := r.Pod.Namespace() + "/" + r.ServiceAccount
	kind := ""
	if st, ok := err.(apierrors.APIStatus); ok && st.Status().Details != nil { //nolint:errorlint // client-go returns it unwrapped
		kind = st.Status().Details.Kind
	}
	switch {
	case apierrors.IsNotFound(err) && kind == "pods", apierrors.IsConflict(err):
		return &contract.Refusal{Code: contract.CodeNotYours, Message: fmt.Sprintf("pod %s is gone", short(r))}
	case apierrors.IsNotFound(err):
		return &contract.Refusal{Code: contract.CodeNoAccount, Message: fmt.Sprintf("service account %s does not exist", account), Remedy: "create it again, or name another in the pod", RetryAfter: 10}
	case apierrors.IsForbidden(err):
		return &contract.Refusal{
			Code: contract.CodeForbidden, Message: fmt.Sprintf("the relay may not make tokens of service account %s (%v)", account, err),
			Remedy: "run `skerryctl init` of this release, which grants it create on serviceaccounts/token", RetryAfter: 30,
		}
	case apierrors.IsBadRequest(err), apierrors.IsInvalid(err):
		return &contract.Refusal{Code: contract.CodeRefused, Message: fmt.Sprintf("Kubernetes refuses a token of service account %s: %v", account, err), Remedy: "correct the pod's projected volume", RetryAfter: 60}
	}
	return &contract.Refusal{Code: contract.CodeUnavailable, Message: fmt.Sprintf("the relay cannot have Kubernetes make a token of service account %s: %v", account, err), RetryAfter: 2}
}

func short(r *contract.TokenRequest) string {
	return clip(r.Pod.Namespace() + "/" + r.Pod.Name())
}

// clip bounds what a gateway can make the log and an answer hold.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
