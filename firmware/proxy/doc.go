// Package proxy opens TCP connections through an HTTP proxy, with CONNECT (RFC 9110, section 9.3.6), for gateways whose
// network lets nothing else out. What then runs through is TLS from end to end: the proxy sees the relay's address and no
// more.
//
// Usage: Parse the address that the operator gave, and pass DialContext wherever a net.Dialer's would go. It has the
// proxy resolve the relay's name. Credentials are sent as Basic (RFC 7617), as plain text like the rest of CONNECT; they
// appear in no error and no log.
//
// A Dialer is immutable and safe for concurrent use. The connections belong to the caller.
//
// Tests use a proxy written by hand on loopback, over IPv4 and IPv6: one that works, and ones that want a password, refuse,
// hang, close, answer endlessly, or are no proxy.
package proxy
