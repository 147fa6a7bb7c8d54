// Package join holds what crosses between a gateway and the relay before there is a link: the join token, the requests
// and the answers of POST /v1/enroll and POST /v1/renew, and the reasons for which a relay refuses. Agent and relay share it.
//
// # Token
//
// A token is "skt1." and the unpadded base64url of
//
//	id length (1 byte), id · secret (32 bytes) · node length (1 byte), node · CA length (2 bytes, big endian), CA · check (4 bytes)
//
// id names the token's record in the cluster, node is the only node that may use it, CA is the DER certificate of the one
// authority that the gateway trusts as its relay's (docs/adr/0002-join-token.md says why the whole certificate), and check
// is the first four bytes of the SHA-256 of all bytes before it: a token that was cut short while copying is told from one
// that is wrong. Lengths are checked against limits before memory is taken.
//
// # Enrolment
//
// The gateway sends Request as JSON over TLS 1.3, verified against the token's CA with server name ServerName. The relay
// answers 200 with Response, or another status with Refusal. Bodies are at most MaxBody bytes.
//
// # Renewal
//
// A gateway with a certificate, valid or expired, sends Renewal to RenewPath over TLS 1.3 without a client certificate, and
// gets a Response or a Refusal. The proof in it is bound to that one connection by its exporter (RFC 8446, section 7.5), so
// that it needs neither a clock, nor a challenge, nor a memory of what was used (docs/adr/0004-renewal.md).
//
// All functions are pure and safe for concurrent use. Tests: golden token, every truncation, fuzzed decoder.
package join
