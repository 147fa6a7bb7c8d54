// Package identity keeps who a gateway is: its private key, the certificate that the relay signed, and the CAs by which it
// knows its relays. It also enrols: it turns a join token into that identity.
//
// Usage: Enroll once, with the token that `skerryctl token create --node NAME` printed; Load at each start and for each
// connection; TLSConfig for the link.
//
// The key pair (ECDSA P-256) is made here and never leaves the gateway. Everything is in one record, kept in two
// checksummed copies outside the agent's store, each written to a temporary file, synced, renamed, and its folder synced:
// one damaged copy costs nothing and is repaired on the next Load. While enrolment is under way, the key is kept in the same
// way beside it, so that a power cut between the relay's signing and our saving is mended by running Enroll again with the
// same token: the token is bound to that key.
//
// A gateway's clock may say 1970. Relays are therefore verified at the later of the gateway's clock and the time at which
// the CA (before enrolment) or the gateway's own certificate (after) became valid: that moment has certainly passed. A clock
// that is ahead is believed. It does harm only when it is beyond the end of the CA, and then the error names the clock.
//
// Load and Enroll may be called concurrently with each other from one process (files are replaced, never changed in
// place), but two Enrolls of one folder at a time waste a token's binding. An Identity is immutable.
//
// Tests use a real TLS server on loopback, a clock of their own, and folders in which single files are damaged or missing.
package identity
