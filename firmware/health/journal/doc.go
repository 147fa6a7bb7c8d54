// Package journal remembers why a gateway started and how its agent ended: the last boots, each with the reason of the reset before it and the runs
// of the agent in it, and what was left of crashes.
//
//	j, news, err := journal.Open(journal.Options{Dir: "/var/lib/skerry/health", Version: skerry.Version, Log: log})
//	for _, n := range news { … }        // what happened since the agent ran last: to be told to the cloud
//	defer j.Stopped()                    // the agent ends in order
//
// The reason of a reset is found from what there is: the note of a planned one ([Journal.Planned]: an update, a shutdown), the watchdog's boot status,
// the record of what was wedged before it, a kernel panic in pstore, what the board's firmware says; a machine that came back without any of it
// has lost its power, or somebody pressed its button. A run of the agent that did not end in order was killed, or has crashed: then its last words are
// kept. An agent that the kernel killed for want of memory is told from the kernel's log.
//
// All of it is bounded, for it is on flash: the journal has [Boots] boots, and [Crashes] crash files of at most [CrashBytes]. It is written at the start and the end of the agent, when
// something is wedged, and never in between. The clock may be wrong (1970): boots have numbers, and times are what the clock said.
//
// A Journal is safe for concurrent use. Tests use folders in place of /sys and /proc, and a process of their own that crashes.
package journal
