package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controllermanageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"github.com/skerry/skerry/hil-tests/kube/pki"
)

const (
	etcdQuota     = 2 << 30 // bytes; ten thousand nodes with all that they renew and report write 400 MB between two compactions
	etcdSnapshots = 5_000   // applied entries kept in memory before a snapshot
	etcdCatchUp   = 100     // a single member has no follower to catch up
	etcdAttempts  = 5       // two free ports may be taken between finding and opening them
)

func kubeVersion() string { return version.Get().GitVersion }

// setupLogs configures klog, which all components share.
func setupLogs(verbosity int) error {
	o := logs.NewOptions()
	o.Verbosity = logsapi.VerbosityLevel(verbosity)
	if err := logsapi.ValidateAndApply(o, utilfeature.DefaultFeatureGate); err != nil {
		return fmt.Errorf("configure the logs: %w", err)
	}
	return nil
}

// plane knows how to start the four components.
type plane struct {
	dir      layout
	certs    pki.Dir
	cidr     string       // addresses of pods; empty: nodes get none
	listener net.Listener // the API server's; opened early so that a port in use is told first
}

// start returns when the control plane is ready to be used; the components go
// on under sup.
func (p *plane) start(sup *supervisor) error {
	endpoint, err := p.startEtcd(sup)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(sup.ctx, startTimeout, fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	if err := p.startAPIServer(ctx, sup, endpoint); err != nil {
		return fmt.Errorf("configure kube-apiserver: %w", err)
	}
	w, err := newWaiter(p.dir.kubeconfig(pki.Admin))
	if err != nil {
		return err
	}
	if err := w.apiServer(ctx); err != nil {
		return err
	}
	sup.add("kube-controller-manager", p.controllerManager)
	sup.add("kube-scheduler", p.scheduler)
	return w.objects(ctx)
}

// startEtcd returns the URL of etcd's client port.
func (p *plane) startEtcd(sup *supervisor) (string, error) {
	var last error
	for range etcdAttempts {
		cfg, err := p.etcdConfig()
		if err != nil {
			return "", err
		}
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			last = err
			continue
		}
		sup.add("etcd", func(ctx context.Context) error {
			defer e.Close()
			select {
			case <-ctx.Done():
				return nil
			case <-e.Server.StopNotify():
				return errors.New("the server stopped")
			case err := <-e.Err():
				return err
			}
		})
		select {
		case <-e.Server.ReadyNotify():
			return cfg.ListenClientUrls[0].String(), nil
		case <-sup.ctx.Done():
			return "", context.Cause(sup.ctx)
		case <-time.After(startTimeout):
			return "", fmt.Errorf("etcd has not become leader within %v: look at the disk, its log tells of slow syncs", startTimeout)
		}
	}
	return "", fmt.Errorf("start etcd on %s: %w", p.dir.etcd(), last)
}

func (p *plane) etcdConfig() (*embed.Config, error) {
	client, err := freeURL()
	if err != nil {
		return nil, err
	}
	peer, err := freeURL()
	if err != nil {
		return nil, err
	}
	tls := transport.TLSInfo{
		CertFile: p.certs.Cert(pki.Etcd), KeyFile: p.certs.Key(pki.Etcd),
		TrustedCAFile: p.certs.Cert(pki.EtcdCA), ClientCertAuth: true,
	}
	cfg := embed.NewConfig()
	cfg.Name = "skerry"
	cfg.Dir = p.dir.etcd()
	cfg.LogLevel = "warn"
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = tls, tls
	cfg.QuotaBackendBytes = etcdQuota
	cfg.SnapshotCount = etcdSnapshots
	cfg.SnapshotCatchUpEntries = etcdCatchUp
	cfg.EnableGRPCGateway = false // nobody speaks JSON to it
	return cfg, nil
}

func freeURL() (url.URL, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return url.URL{}, fmt.Errorf("find a free port for etcd: %w", err)
	}
	defer ln.Close()
	return url.URL{Scheme: "https", Host: ln.Addr().String()}, nil
}

func (p *plane) startAPIServer(ctx context.Context, sup *supervisor, etcd string) error {
	c := p.certs
	port := p.listener.Addr().(*net.TCPAddr).Port
	o := apiserveroptions.NewServerRunOptions()
	err := parseFlags(o.Flags(), []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // an endpoint may not be a loopback address
		"--etcd-servers=" + etcd,
		"--etcd-cafile=" + c.Cert(pki.EtcdCA),
		"--etcd-certfile=" + c.Cert(pki.APIServerEtcdClient),
		"--etcd-keyfile=" + c.Key(pki.APIServerEtcdClient),
		"--client-ca-file=" + c.Cert(pki.CA),
		"--tls-cert-file=" + c.Cert(pki.APIServer),
		"--tls-private-key-file=" + c.Key(pki.APIServer),
		"--kubelet-client-certificate=" + c.Cert(pki.APIServerKubeletClient),
		"--kubelet-client-key=" + c.Key(pki.APIServerKubeletClient),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--requestheader-client-ca-file=" + c.Cert(pki.FrontProxyCA),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.Cert(pki.FrontProxyClient),
		"--proxy-client-key-file=" + c.Key(pki.FrontProxyClient),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.ServiceAccountPublic(),
		"--service-account-signing-key-file=" + c.ServiceAccountKey(),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--authorization-mode=Node,RBAC",
		"--enable-aggregator-routing=true", // to the endpoints of an API service (metrics-server): nothing here makes its ClusterIP reachable
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--max-requests-inflight=200",
		"--max-mutating-requests-inflight=100",
		"--shutdown-watch-termination-grace-period=2s", // or open watches hold up the end for a minute
		"--profiling=false",
	})
	if err != nil {
		return err
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	o.SecureServing.Listener = p.listener
	completed, err := o.Complete(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return err
	}
	sup.add("kube-apiserver", func(ctx context.Context) error { return apiserver.Run(ctx, completed) })
	return nil
}

func (p *plane) controllerManager(ctx context.Context) error {
	o, err := controllermanageroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	all, off, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	flags := o.Flags(all, off, aliases)
	o.ParsedFlags = &flags
	kubeconfig := p.dir.kubeconfig(pki.ControllerManager)
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false", // there is no second one
		"--secure-port=0",      // its health is that of the process
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + p.certs.ServiceAccountKey(),
		"--root-ca-file=" + p.certs.Cert(pki.CA),
		"--cluster-signing-cert-file=" + p.certs.Cert(pki.CA),
		"--cluster-signing-key-file=" + p.certs.Key(pki.CA),
		"--cluster-name=skerry",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--controller-shutdown-timeout=5s",
		"--kube-api-qps=200", // the default, 20, delays the first start by 5 s
		"--kube-api-burst=400",
		"--profiling=false",
	}
	if p.cidr != "" {
		args = append(args, "--allocate-node-cidrs=true", "--cluster-cidr="+p.cidr)
	}
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	cfg, err := o.Config(ctx, all, off, aliases)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return controllermanager.Run(ctx, cfg.Complete())
}

func (p *plane) scheduler(ctx context.Context) error {
	o := scheduleroptions.NewOptions()
	kubeconfig := p.dir.kubeconfig(pki.Scheduler)
	err := parseFlags(*o.Flags, []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	})
	if err != nil {
		return err
	}
	cfg, sched, err := scheduler.Setup(ctx, o)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	return scheduler.Run(ctx, cfg, sched)
}

// parseFlags gives a component its command line. Flags, rather than the
// options' fields, because they are documented and checked.
func parseFlags(sets cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
	return fs.Parse(args)
}
