// Package setup prepares a cluster for Skerry: namespace, custom resources, the certificate authority, and the rights
// that the relay needs and no more. `skerryctl init` is this package with a terminal.
//
// Usage: Apply, as often as one likes; it changes only what differs and reports each object. Two at once do no harm: who
// comes second finds the other's objects. Nothing that exists is deleted, and an existing CA is never replaced.
//
// Tests use client-go's fakes; against a real API server with RBAC switched on it runs in the integration tests.
package setup
