// Package push runs what pushes values of devices against servers that we did not write: Debian's mosquitto and redis-server, through outages of them
// and restarts of the history and of what reads it.
//
// # Usage
//
//	make push-peers
//	go test -tags integration ./hil-tests/push
//
// # Concurrency
//
// The test starts servers of its own on free ports of loopback, and ends them.
//
// # Testing
//
// The package has nothing but a test. It needs what `scripts/deps.sh push` installs; no root.
package push
