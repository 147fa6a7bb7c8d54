// Package identity keeps who a gateway is: its private key, the certificate that the relay signed, and the CAs by which it
// knows its relays. It also enrols: it turns a join token into that identity, and renews the certificate before it ends, or
// after.
//
// Usage: Enroll once, with the token that `skerryctl token create --node NAME` printed; Load at each start and for each
// connection; TLSConfig for the link; a Renewer for as long as the agent runs, told by the link what time relays have.
//
// A renewed certificate is for the same key (docs/adr/0004-renewal.md says why), so that at every moment of a renewal the
// identity on the disk is one that can be used, or at least renewed. A new one replaces it in both copies; nothing that is
// connected is disturbed.
//
// Relays name the CAs that are to be trusted with each renewal. A gateway that missed that verifies its relay through what the CA
// that it knows has signed for its successors (docs/adr/0005-ca-rotation.md), which relays send along; X.509's ordinary rules do.
//
// A new certificate that cannot be saved is kept in memory, and saving is tried again; relays are not asked for another. How long
// a relay asks to wait is honoured, up to an hour.
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
// When to renew is judged by the relay's clock as it was last heard in this process, and the time that has passed since; before
// anything was heard, by the later of the gateway's clock and the moment when the certificate was signed. A gateway that
// wakes in 1970 with an expired certificate does not know: its relay tells it, by refusing.
//
// Load and Enroll may be called concurrently with each other from one process (files are replaced, never changed in
// place), but two Enrolls of one folder at a time waste a token's binding. An Identity is immutable.
//
// Tests use a real TLS server on loopback, a clock of their own, and folders in which single files are damaged or missing.
package identity
