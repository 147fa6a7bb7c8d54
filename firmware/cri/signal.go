package cri

import (
	"slices"
	"strconv"
)

// Signal is a CRI stop signal: its own numbering, not the kernel's (api.proto, enum Signal). 0 means the
// runtime's default; of a container's status, that the runtime does not know stop signals.
type Signal int32

// signals are the names that Kubernetes has for them (core/v1, Signal), in CRI's order, but for the real-time ones after the first.
func signals() []string {
	names := []string{"", "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE",
		"SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
		"SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN"}
	for n := 1; n <= 15; n++ {
		names = append(names, "SIGRTMIN+"+strconv.Itoa(n))
	}
	for n := 14; n > 0; n-- {
		names = append(names, "SIGRTMAX-"+strconv.Itoa(n))
	}
	return append(names, "SIGRTMAX")
}

// SignalOf returns the signal of a name such as SIGTERM or SIGRTMIN+3; 0 if there is none.
func SignalOf(name string) Signal {
	return Signal(max(0, slices.Index(signals(), name))) //nolint:gosec // 66 of them
}

// String returns the signal's name, "" for the runtime's default and for numbers that are none.
func (s Signal) String() string {
	if s <= 0 {
		return ""
	}
	if names := signals(); int(s) < len(names) {
		return names[s]
	}
	return ""
}
