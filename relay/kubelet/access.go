package kubelet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The kubelet's authorization.webhook.cacheAuthorizedTTL and …UnauthorizedTTL.
const (
	accessGood = 5 * time.Minute
	accessBad  = 30 * time.Second
	accessKept = 32 << 10
)

// authorizer asks the API server who may do what.
type authorizer struct {
	client kubernetes.Interface
	kept   *remembered[[32]byte, bool]
}

func newAuthorizer(client kubernetes.Interface) *authorizer {
	return &authorizer{client: client, kept: newRemembered[[32]byte, bool](accessKept)}
}

// verb is what a method is called in a review.
func verb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return strings.ToLower(method)
}

// subresources are those of a node that cover a path; one of them is enough. They are the kubelet's, of Kubernetes 1.33 and later
// (fine-grained kubelet API authorization).
func subresources(path string) []string {
	below := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
	switch {
	case below("/stats"):
		return []string{"stats"}
	case below("/metrics"):
		return []string{"metrics"}
	case below("/logs"):
		return []string{"log"}
	case below("/pods"), below("/runningpods"):
		return []string{"pods", "proxy"}
	case below("/healthz"):
		return []string{"healthz", "proxy"}
	case below("/configz"):
		return []string{"configz", "proxy"}
	}
	return []string{"proxy"}
}

// allowed reports whether u may send a request for path to a node; empty: to all nodes.
func (a *authorizer) allowed(ctx context.Context, u user, method, path, node string) (bool, error) {
	for _, sub := range subresources(path) {
		ok, err := a.review(ctx, u, authorizationv1.ResourceAttributes{Verb: verb(method), Version: "v1", Resource: "nodes", Subresource: sub, Name: node})
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

func (a *authorizer) review(ctx context.Context, u user, what authorizationv1.ResourceAttributes) (bool, error) {
	spec := authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &what, User: u.name, UID: u.uid, Groups: u.groups}
	for k, v := range u.extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[k] = v
	}
	text, err := json.Marshal(spec) // maps in the order of their keys
	if err != nil {
		return false, err
	}
	key := sha256.Sum256(text)
	if ok, known := a.kept.get(key); known {
		return ok, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewLimit)
	defer cancel()
	answer, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review access of %q: %w", u.name, err)
	}
	ok := answer.Status.Allowed
	life := accessBad
	if ok {
		life = accessGood
	}
	a.kept.put(key, ok, life)
	return ok, nil
}
