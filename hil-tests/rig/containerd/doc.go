// Package containerd runs a real containerd for tests and the demo, apart from the host's own: with our
// configuration, our folders, our socket, our CNI network on a bridge of its own, and images from a loopback registry.
//
//	rt, err := containerd.Start(ctx, containerd.Options{Dir: dir, SandboxImage: reg.PauseImage()})
//	defer rt.Cleanup(context.Background())
//	rt.Client().Version(ctx)                    // a cri.Client; rt.Socket() is for the agent's configuration
//	rt.Kill(); err = rt.Restart(ctx)            // faults
//
// Options.CRIO runs a CRI-O in containerd's place, with the same network and folders: what is said here of containerd holds for it, but for
// shims and what CNI leaves in /var/lib/cni.
//
// It needs root, and Debian's packages containerd, runc, containernetworking-plugins and iproute2.
//
// # What it leaves outside its folders while it runs
//
// Bridge skrigN, whose creation also claims subnet 10.212.N.0/24 among concurrent rigs; cgroups below
// /skerry-rig-XXXXXXXX if pods are given CgroupParent; shim sockets in /run/containerd/s and CNI results in
// /var/lib/cni/results (both paths are compiled into containerd 1.6). Cleanup removes all of it, also what an earlier process with the
// same Dir left behind when it was killed. The bridge plugin switches net.ipv4.ip_forward on and nobody switches it off.
//
// A Runtime's methods are for one goroutine at a time; Client, Socket and CgroupParent are safe for all.
package containerd
