// Command skerry-kube is a real Kubernetes control plane in one process, for
// the demo, the benchmarks and the integration tests: etcd, kube-apiserver,
// kube-controller-manager and kube-scheduler as their projects ship them, and
// kubectl beside them.
//
//	skerry-kube up --dir DIR [--port N] [--cluster-cidr CIDR] [-v N]
//	skerry-kube kubectl --kubeconfig DIR/admin.kubeconfig get nodes
//
// A link to the binary that is named kubectl is kubectl.
//
// up keeps everything under DIR: certificates, etcd's data, kubeconfigs and
// the port. Started again on the same DIR, after a stop or after a SIGKILL, it
// has the same objects behind the same address and certificates, so every
// kubeconfig handed out stays valid. It listens on 127.0.0.1 only. When it is
// ready it writes DIR/ready.json and prints one line that begins with
// "ready"; the components' logs go to standard error. SIGTERM or SIGINT stops
// it; a second one ends it at once.
//
// The four run as goroutines, so that they share one heap and die together.
// The projects' own commands cannot be used for that, since each installs a
// signal handler that may exist once per process; their options and their Run
// functions can, and nothing else here is ours.
//
// Tested by hil-tests/rig/controlplane, which runs the binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's credential plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/component-base/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

const usage = `skerry-kube: a Kubernetes control plane in one process, for development.

  skerry-kube up --dir DIR   run etcd, kube-apiserver, kube-controller-manager and kube-scheduler
  skerry-kube kubectl ...    kubectl
  skerry-kube version        print the version of Kubernetes
`

func main() {
	if filepath.Base(os.Args[0]) == "kubectl" {
		kubectl(os.Args)
		return
	}
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	switch os.Args[1] {
	case "kubectl":
		kubectl(os.Args[1:])
	case "version":
		fmt.Println(version.Get().GitVersion)
	case "up":
		os.Exit(upMain(os.Args[2:]))
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "skerry-kube: there is no command %q\n\n%s", os.Args[1], usage)
		os.Exit(2)
	}
}

// kubectl does what kubectl's own main does. args[0] stands for the program,
// because kubectl looks for its plugins by reading os.Args.
func kubectl(args []string) {
	os.Args = append([]string{"kubectl"}, args[1:]...)
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}

func upMain(args []string) int {
	opts, err := parse(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "skerry-kube up: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // gives the second signal its default effect
	if err := run(ctx, opts); err != nil {
		fmt.Fprintf(os.Stderr, "skerry-kube up: %v\n", err)
		return 1
	}
	return 0
}

// options are the command line of up.
type options struct {
	dir       string
	port      int    // 0: the one recorded in dir, else a free one
	verbosity int    // klog's -v for the components
	cidr      string // addresses of pods, of which every node gets a part; empty: nodes get none
	out       io.Writer
}

func parse(args []string, errOut io.Writer) (options, error) {
	o := options{out: os.Stdout}
	fs := flag.NewFlagSet("skerry-kube up", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&o.dir, "dir", "", "folder that holds all state; made if it is not there (required)")
	fs.IntVar(&o.port, "port", 0, "port of the API server on 127.0.0.1; 0: the one used before on this folder, else a free one")
	fs.StringVar(&o.cidr, "cluster-cidr", "", "addresses of pods, as 10.244.0.0/16, of which every node gets 256; empty: nodes get none")
	fs.IntVar(&o.verbosity, "v", 0, "verbosity of the components' logs, 0 to 10")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	switch {
	case fs.NArg() > 0:
		return options{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.dir == "":
		return options{}, errors.New("--dir is required: the folder that holds certificates, etcd's data and kubeconfigs")
	case o.port < 0 || o.port > 65535:
		return options{}, fmt.Errorf("--port %d: must lie between 0 and 65535", o.port)
	case o.verbosity < 0 || o.verbosity > 10:
		return options{}, fmt.Errorf("-v %d: must lie between 0 and 10", o.verbosity)
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return options{}, fmt.Errorf("--dir %s: %w", o.dir, err)
	}
	o.dir = dir
	return o, nil
}
