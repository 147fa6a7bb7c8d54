// Package relays tests several relays on one real control plane: agents of the fleet simulator and one real skerryd are spread over
// three relay processes, which are drained, killed and frozen while configMaps, desired values and device reports change. Each test
// compares in the end what each agent holds with what the API says it should, and what the API shows with what each agent reported
// last; observers watch all the time that no node becomes NotReady, that no Lease goes back to an older session, and that no
// reported value is overwritten by an older one.
//
//	SKERRY_BIN=$PWD/build/bin go test -tags integration ./hil-tests/relays
//
// It needs neither root nor containerd. Limits of time in it are deadlines; the figure is failover_s of `make bench-fleet`.
package relays
