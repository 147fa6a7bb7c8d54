// Package inspect compares what a board's descriptor says with what is really there, for the technician who has a new board on the bench
// or one that does not work:
//
//	report := inspect.Check(descriptor, inspect.System{Root: "/"})
//
// It only looks. Above all it never opens a watchdog: that starts it, for every driver of the kernel's watchdog core (watchdog_open in
// watchdog_dev.c), and closing it again does not stop it on all. What WDIOC_GETSUPPORT would tell, identity and times, is read from
// /sys/class/watchdog instead. A serial port is opened only where the descriptor has the kernel switch an RS-485 transmitter, to ask
// whether it does; opening raises RTS, and RTS may be what a transmitter hangs on.
//
// Check may be called concurrently. Tests build /dev, /sys and /proc in a folder and give it as Root, and stand in for the two ioctls.
package inspect
