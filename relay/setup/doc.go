// Package setup prepares a cluster for Skerry: namespace, custom resources, the certificate authority, and the rights
// that the relay needs and no more. `skerryctl init` is this package with a terminal.
//
// Usage: Apply, as often as one likes; it changes only what differs and reports each object. Two at once do no harm: who
// comes second finds the other's objects. Nothing that exists is deleted, and an existing CA is never replaced.
//
// Tested through skerryctl (relay/cmd/skerryctl) with client-go's fakes, and in hil-tests/api against a real API server with RBAC.
package setup
