// Package pki keeps the certificates of the OPC UA driver: the gateway's own application instance certificate, the servers
// and authorities that it trusts, and the certificates that it has refused (OPC 10000-4 section 6.1, OPC 10000-12).
//
// # Usage
//
//	store, err := pki.Open("/var/lib/skerry/opcua")
//	own, err := store.Own()                              // made at the first call
//	warnings, err := store.Verify(endpoint.ServerCertificate, url, endpoint.Server.ApplicationURI)
//	certificates, err := store.Certificates()            // device.Truster, for skerryctl device trust
//	err = store.Trust("3f2a…")
//
// The folder has the layout that other OPC UA applications use, so that files can also be copied into it by hand, in DER
// or PEM:
//
//	own/certs/skerryd.der         own certificate: import it into the server's trust list
//	own/certs/skerryd-next.der    its successor, 90 days before it takes over: import it too
//	own/private/skerryd.pem       private key, 0600
//	trusted/certs, trusted/crl    servers that are trusted, and authorities all of whose servers are
//	issuers/certs, issuers/crl    authorities that only complete a chain
//	rejected/certs                certificates that were refused, the newest 64
//
// A certificate is judged by the steps of OPC 10000-4 table 100. Where the specification lets an administrator suppress a
// finding (the host name, an unknown revocation), it is a warning here; a validity that cannot be judged because the clock
// is not set is one too, since a gateway without a battery must reach its devices after a power cut without a network.
//
// # Concurrency
//
// A Store is safe for concurrent use. One process owns a folder; files that are added or removed by hand count from the
// next call on.
//
// # Testing
//
// Unit tests make authorities and servers, hold every step to its status code, and set the clock to 1970. What parses
// bytes of others is fuzzed. hil-tests/opcua runs the whole trust flow with node-opcua.
package pki
