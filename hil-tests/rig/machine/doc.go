// Package machine boots a Debian with systemd as PID 1 on this machine, in namespaces of its own, so that tests can install packages and see units
// start, be killed and be sandboxed by the systemd that gateways have. It is no virtual machine: the kernel is this one, and the network is a loopback
// interface that is down.
//
// The root file system (scripts/build-debian-root.sh makes it) stays as it is: each machine writes to an overlay in a temporary folder.
//
//	m := machine.Boot(t, root)
//	out, err := m.Run(ctx, "systemctl", "is-active", "skerryd")
//
// Needs root, overlayfs and cgroup v2 (controllers are not needed). A Machine may be used by several goroutines; it ends with its test.
package machine
