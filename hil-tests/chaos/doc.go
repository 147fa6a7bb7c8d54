// Package chaos kills what runs pods while pods are created, changed and deleted through the Kubernetes API: the agent, containerd, both, the
// agent with a full disk, and the agent while its clock is set. When the killing ends, what runs must be what is wanted, and nothing may be left of what is not.
//
//	make chaos                                                       # ten minutes of each, and 200 pods that come and go
//	go test -tags integration ./hil-tests/chaos                      # the short form: about a minute of killing in all
//	CHAOS=2m CHAOS_SEED=7 go test -tags integration ./hil-tests/chaos -run 'TestChaos/agent'
//
// The seed decides what happens in which order; when it happens depends on the machine. At the end of each part the test holds, by the API and by
// containerd's own lists:
//
//   - the pods that run are the wanted ones, each with one container of the wanted image;
//   - a container that was seen to run, and whose pod was not changed, is the same in the end;
//   - no container was restarted more often than its image was changed and starts of containers can have been cut short;
//   - nothing is left of pods that are gone: sandboxes, containers, shims, mounts, network namespaces, cgroups, addresses, folders, logs.
//
// Not held: shims and cgroups of sandboxes that containerd itself forgets when it, or the call that makes them, is interrupted (seen with 1.6). They
// are not in its lists, so that no client can remove them; the log has their number.
//
// The machine's clock is not set, for others use it: the agent is compiled with a package time of which Now has an offset (rig/clockstep), a year or ten
// minutes in either direction, or 1970. containerd and the kernel keep the right time, so that the agent meets containers dated a year away from its own
// clock all the time, which is worse than what a step of the whole machine does. TestClockUnits has that one too, in virtual time.
package chaos
