// Package process runs the real programs that the demo, the benchmarks and the
// integration tests are made of, and leaves none of them behind.
//
//	p, err := process.Start(process.Spec{Name: "relay", Path: bin, Args: args, Log: dir + "/relay.log"})
//	if err != nil { … }
//	defer p.Stop()
//	err = process.WaitReady(ctx, p, "the relay listens", func(ctx context.Context) error { … })
//
// Every child is the leader of a process group of its own and gets SIGKILL
// when this process dies, however that happens. When a child ends, whatever is
// left in its group is killed too, before the child is reaped, so that a group
// number cannot have been reused. A descendant that leaves the group on
// purpose (containerd's shims do) is not the business of this package.
//
// A child's output goes straight into its log file. Errors quote the file's
// end, so that a failed step tells why without anybody opening it.
//
// Concurrency: the methods of a Process may be called from any goroutine and
// any number of times. Stop and Kill block until the child has been reaped.
// Each child costs one goroutine with a thread of its own until it ends.
//
// Tested with /bin/sh as the child.
package process
