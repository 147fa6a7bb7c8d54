package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/hil-tests/rig/stack"
)

func main() {
	bin := flag.String("bin", "build/bin", "folder of skerryd, skerry-relay, skerryctl and skerry-kube")
	module := flag.String("module", ".", "root of the checkout")
	once := flag.Bool("once", false, "end after the steps, without the live table")
	keep := flag.Bool("keep", false, "keep the folder with all logs and state")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, *bin, *module, *once, *keep)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, bin, module string, once, keep bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("containers need root: run `sudo make demo`")
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	if module, err = filepath.Abs(module); err != nil {
		return err
	}
	_, ioctl := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS)
	terminal := ioctl == nil
	log.SetOutput(io.Discard) // gopcua's server tells how it builds its address space
	began := time.Now()
	d := &demo{opts: stack.Options{Bin: bin, Module: module, Keep: keep, Kubelet: true, ClusterDNS: "10.96.0.10"}, out: out}
	defer func() {
		fmt.Fprintln(out, "\nremoving everything that the demo started …")
		// The demo's own context may be what ended it; cleaning up gets its own time.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, d.close(end))
	}()
	if err := show(ctx, out, terminal && !once, d.steps()); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C is a way to end the demo
		}
		d.explain()
		return err
	}
	fmt.Fprintf(out, "\nevery step held; %.0f s in all\n", time.Since(began).Seconds())
	if !once && terminal {
		table(ctx, out, d.cluster)
		return nil
	}
	fmt.Fprintln(out)
	return draw(ctx, out, d.cluster, time.Now())
}
