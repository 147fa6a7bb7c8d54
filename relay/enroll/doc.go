// Package enroll is the relay's side of joining and renewing: join tokens, the certificate authority, the signing of gateways'
// certificates, and the list of revoked nodes. All state is in Kubernetes objects of one namespace (skerry-system):
//
//	Secret skerry-ca          the CA's certificate and key (kubernetes.io/tls)
//	Secret skerry-join-ID     one join token: hash of its secret, node, expiry, and the hash of the key that it is bound to
//	ConfigMap skerry-revoked  one key for each revoked node, its value says when and why
//
// Usage: InitCA once per cluster (skerryctl init); LoadCA, CA.IssueServing and NewServer in the relay; Tokens in skerryctl;
// Revocations in the relay, whose Revoked the hub asks at every handshake.
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
// CA, Server, Tokens and Revocations are safe for concurrent use.
//
// Tests use client-go's fake clientset made strict about resourceVersions, real TLS on loopback, and
// the agent's own enrolment code; decoders are fuzzed.
package enroll
