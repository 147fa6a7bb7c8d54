// Package kubelet holds what agents answer to /stats/summary to the kubelet's own types, k8s.io/kubelet/pkg/apis/stats/v1alpha1. It has only
// tests, and a module of its own so that those types are never linked into the agent.
//
// Every field that an agent sends must be in them, under the same name and in a type that fits; every field that they have and the agent does
// not send must be in the list of fields left out on purpose.
package kubelet
