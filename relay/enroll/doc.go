// Package enroll is the relay's side of joining and renewing: join tokens, the certificate authority and its successors, the
// signing of gateways' certificates, and the list of revoked nodes. All state is in Kubernetes objects of one namespace
// (skerry-system):
//
//	Secret skerry-ca          the CA's certificate and key (kubernetes.io/tls), and what is left of those before it (secret.go)
//	Secret skerry-join-ID     one join token: hash of its secret, node, expiry, and the hash of the key that it is bound to
//	ConfigMap skerry-revoked  one key for each node that was ever revoked, its value is a Revocation as JSON
//
// Usage: InitCA and InitRevoked once per cluster (skerryctl init). In the relay: an Authority, which follows the CA and has the
// relay's own certificate; Revocations, whose Refused the hub asks at every handshake; NewServer with both. In skerryctl: Tokens;
// Revoke, Restore, ListRevoked and PruneRevoked; BeginRotation, FinishRotation, AbortRotation and ReplaceCA.
//
// Who may have what: a token is good for one node, until it expires, and for the first key that proves itself with it. That
// key may come again, because power can fail between our signing and the gateway's saving. Binding is an update that
// carries the resourceVersion it was based on, so two relays cannot bind one token to two keys. The relay takes the public
// key from the request and nothing else; subject, alternative names, usages and lifetime are its own.
//
// A renewal proves the key of a certificate of ours, on its own TLS connection and without a client certificate, since the
// certificate may have expired: the handshake would refuse it, and goes on refusing it for everything else. Nobody gets a
// certificate before the list of revoked nodes has been read.
//
// CA is immutable; Authority, Server, Tokens and Revocations are safe for concurrent use.
//
// Tests use client-go's fake clientset made strict about resourceVersions, real TLS on loopback, and
// the agent's own enrolment code; decoders are fuzzed. hil-tests/identity has the life of a fleet.
package enroll
