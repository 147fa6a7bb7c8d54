// Package conformance is the table of what Kubernetes promises about Pods, row by row, and the program that holds a gateway to it: each row
// is a pod, the page of the documentation that promises something about it, and what the Kubernetes API then has to show.
//
//	make conformance                                             # both containerds; prints the table
//	go test -tags integration ./hil-tests/conformance -run 'TestConformance/volumes'
//	go test ./hil-tests/conformance                              # the table itself: no containers
//	go test ./hil-tests/conformance -update                      # writes docs/conformance.md
//
// The runner drives the Kubernetes API and nothing else: it creates the pod, watches it, and lets the scheduler, the relay, the agent and
// containerd do their work. What can be seen only inside a container, the container tells in its termination message, which is part of
// the API. Rows run at the same time, each with objects and a folder of its own.
//
// A row's expectations are short sentences (`main terminated 137 OOMKilled`, `event Warning BackOff`): Compile has the grammar. A step is fulfilled
// by one version of the pod in which all its sentences are true at once; sentences under Never must be false in every version.
// Times are taken from the API's own timestamps, which are in whole seconds, and only lower bounds and grace periods are held: the
// timing class of a row bounds how long a step may take in all.
//
// Rows are values; Rows may be called by anyone at any time. TestTable holds the rows to be well formed, to cover every field that docs/pods.md
// says is supported (or to say why not), and docs/conformance.md to be what they say.
package conformance
