// Package overview gathers what an operator wants to see of Skerry at one glance: relays, nodes, devices. It reads only
// Kubernetes objects, so it works from any machine with a kubeconfig, and while every relay is down.
//
// Usage: Gather, then Print or encode as JSON, all of it or its Problems. Both are safe for concurrent use. Tests use client-go's fakes.
package overview
