package kube

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// errFenced says that a newer session, of this or another relay, owns the node.
var errFenced = errors.New("a newer session owns the node")

// ErrNewerSession is returned by SessionStarted when the node's Lease records a newer session.
var ErrNewerSession = errFenced

// waitError says that a write is not due yet.
type waitError struct{ for_ time.Duration }

// Error implements error.
func (e waitError) Error() string { return "not due for " + e.for_.String() }

// refusal is an error that trying again cannot mend.
type refusal struct{ why string }

// Error implements error.
func (e refusal) Error() string { return e.why }

// permanent reports whether err says that the request itself is wrong, so that it would fail again.
// A refusal for lack of rights is not: rights can be given while the relay runs.
func permanent(err error) bool {
	return errors.As(err, new(refusal)) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) ||
		apierrors.IsMethodNotSupported(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}
