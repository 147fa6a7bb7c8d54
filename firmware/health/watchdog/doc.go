// Package watchdog resets a gateway whose agent is wedged: it feeds a watchdog for as long as all critical components are alive, and stops when one
// is not, after it has recorded why.
//
// There are two kinds of [Feeder]. [OpenDevice] is the hardware's, a Linux watchdog device (Documentation/watchdog/watchdog-api.rst), for systems
// without systemd. [Systemd] is the service manager's (sd_notify(3), WatchdogSec= of the unit): there systemd holds the hardware itself
// (RuntimeWatchdogSec=), so that a dead systemd and a wedged agent both end in a reset.
//
//	k := watchdog.New(watchdog.Options{Feeder: f, Wedged: registry.Wedged, Forgive: registry.Forgive, Record: journal.Wedged, Log: log})
//	err := k.Run(ctx)
//
// A [Keeper] looks every few seconds. If nothing is wedged it feeds. Else it has the reason recorded, which must not take long and gets no more than a few
// seconds, since it may be the disk that hangs; then it no longer feeds. A component that comes back in time has it fed again. A gateway whose fault a reset does not
// mend shall not be reset for ever without a pause: Options.Patience is how much longer a wedge is put up with.
//
// Run blocks until its context ends, and then closes the feeder: disarmed, or armed if the machine goes down. State may be called by any goroutine.
//
// Tests have a device made of memory behind the seam of the system calls, a Unix socket for systemd, and synctest for the clock.
package watchdog
