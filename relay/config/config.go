// Package config reads and checks the relay's configuration: a YAML file, which may be missing, and flags, which win.
//
// Parse returns a configuration that is complete and valid, or one error that lists everything that is wrong, each with its
// key. A key that does not exist is an error. docs/relay.md is the reference; a test holds it to this package.
//
// Parse has no side effects but reading the file; a Config is a plain value, safe to share once made.
package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the relay's configuration. The yaml tags are the keys of the file.
type Config struct {
	Name           string   `yaml:"name"`           // of this relay, unique among the replicas
	Kubeconfig     string   `yaml:"kubeconfig"`     // path; empty: the pod's service account, else $KUBECONFIG, else ~/.kube/config
	Listen         string   `yaml:"listen"`         // HOST:PORT for agents
	Address        string   `yaml:"address"`        // HOST:PORT under which gateways reach this replica and no other; may be empty
	Advertise      []string `yaml:"advertise"`      // names and IP addresses in the serving certificate
	MetricsAddress string   `yaml:"metricsAddress"` // HOST:PORT of /metrics, /healthz, /readyz, /statusz
	Pprof          bool     `yaml:"pprof"`          // serve /debug/pprof/ there, too
	Log            Log      `yaml:"log"`
	API            API      `yaml:"api"`
	Devices        Devices  `yaml:"devices"`
	Lease          Lease    `yaml:"lease"`
	Enroll         Enroll   `yaml:"enroll"`
	Autonomy       Autonomy `yaml:"autonomy"`
	Limits         Limits   `yaml:"limits"`
	Kubelet        Kubelet  `yaml:"kubelet"`
	Drain          Drain    `yaml:"drain"`
	Memory         Memory   `yaml:"memory"`
}

// Log says what is logged, to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// API bounds what the relay asks of the API server.
type API struct {
	QPS     float64 `yaml:"qps"`     // requests per second, on average
	Burst   int     `yaml:"burst"`   // requests at once
	Writers int     `yaml:"writers"` // status writes under way at once
}

// Devices bounds the writes of device values.
type Devices struct {
	WriteInterval time.Duration `yaml:"writeInterval"` // shortest time between two writes of one device's values
}

// Lease says how long a node counts as alive.
type Lease struct {
	Duration time.Duration `yaml:"duration"`
	Interval time.Duration `yaml:"interval"` // between renewals
}

// Autonomy is about the pods of gateways that are cut off (docs/autonomy.md).
type Autonomy struct {
	Enabled  bool          `yaml:"enabled"`
	Duration time.Duration `yaml:"duration"` // how long they stay, and Services keep them; 0: for ever
}

func (a Autonomy) check(bad func(key, format string, args ...any)) {
	if a.Duration != 0 && a.Duration < time.Second {
		bad("autonomy.duration", "%v is neither 0 (for ever) nor a second or more", a.Duration)
	}
}

// maxLifetime is enroll.MaxLifetime, without that package's dependencies; a test holds them together.
const maxLifetime = 365 * 24 * time.Hour

// Enroll is about gateways' certificates.
type Enroll struct {
	CertificateLifetime time.Duration `yaml:"certificateLifetime"` // of what is signed from now on
}

// Default returns the configuration that an empty file means.
func Default() Config {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return Config{
		Name:           name,
		Listen:         "0.0.0.0:7443",
		MetricsAddress: "127.0.0.1:7480",
		Log:            Log{Level: "info", Format: "text"},
		API:            API{QPS: 200, Burst: 400, Writers: 16},
		Devices:        Devices{WriteInterval: 100 * time.Millisecond},
		Lease:          Lease{Duration: 40 * time.Second, Interval: 10 * time.Second},
		Enroll:         Enroll{CertificateLifetime: 90 * 24 * time.Hour},
		Autonomy:       Autonomy{Enabled: true},
		Limits:         DefaultLimits(),
		Kubelet:        DefaultKubelet(),
		Drain:          Drain{Period: 5 * time.Second},
		Memory:         Memory{GCPercent: 50},
	}
}

// ErrVersion is returned by Parse for --version.
var ErrVersion = errors.New("version asked for")

// Parse reads the arguments (without the program's name) and the file that they name. It returns flag.ErrHelp after writing
// the flags to usage if they were asked for.
func Parse(args []string, usage io.Writer) (Config, error) {
	var (
		given Config
		lists []string
	)
	fs := flag.NewFlagSet("skerry-relay", flag.ContinueOnError)
	fs.SetOutput(usage)
	file := fs.String("config", "", "YAML `file`; flags win over it")
	version := fs.Bool("version", false, "print the version and exit")
	fs.StringVar(&given.Name, "name", "", "`name` of this relay, unique among the replicas (default: the host name)")
	fs.StringVar(&given.Kubeconfig, "kubeconfig", "", "kubeconfig `file` (default: the pod's service account, $KUBECONFIG, ~/.kube/config)")
	fs.StringVar(&given.Listen, "listen", "", "`HOST:PORT` for agents (default 0.0.0.0:7443)")
	fs.StringVar(&given.Address, "address", "", "`HOST:PORT` under which gateways reach this very replica: relays that end send their agents there")
	fs.Func("advertise", "`name` or IP address for the serving certificate; may be repeated, commas separate several", func(s string) error {
		lists = append(lists, strings.Split(s, ",")...)
		return nil
	})
	fs.StringVar(&given.MetricsAddress, "metrics-address", "", "`HOST:PORT` of /metrics, /healthz, /readyz, /statusz (default 127.0.0.1:7480)")
	fs.StringVar(&given.Kubelet.PeerAddress, "kubelet-peer-address", "", "`HOST:PORT` under which other relays reach this very replica's kubelet port")
	fs.BoolVar(&given.Pprof, "pprof", false, "serve /debug/pprof/ on the metrics address, for finding out where memory and time go")
	fs.StringVar(&given.Log.Level, "log-level", "", "debug, info, warn or error (default info)")
	fs.StringVar(&given.Log.Format, "log-format", "", "text or json (default text)")
	if err := fs.Parse(args); err != nil {
		return Config{}, err
	}
	if *version {
		return Config{}, ErrVersion
	}
	if fs.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q: skerry-relay takes flags only", fs.Arg(0))
	}
	c := Default()
	if *file != "" {
		if err := c.read(*file); err != nil {
			return Config{}, err
		}
	}
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "name":
			c.Name = given.Name
		case "kubeconfig":
			c.Kubeconfig = given.Kubeconfig
		case "listen":
			c.Listen = given.Listen
		case "address":
			c.Address = given.Address
		case "advertise":
			c.Advertise = lists
		case "metrics-address":
			c.MetricsAddress = given.MetricsAddress
		case "kubelet-peer-address":
			c.Kubelet.PeerAddress = given.Kubelet.PeerAddress
		case "pprof":
			c.Pprof = given.Pprof
		case "log-level":
			c.Log.Level = given.Log.Level
		case "log-format":
			c.Log.Format = given.Log.Format
		}
	})
	return c, c.check()
}

func (c *Config) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration file %s: %w (docs/relay.md lists the keys)", path, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("configuration file %s: it holds more than one YAML document", path)
	}
	return nil
}

// check returns everything that is wrong, joined.
func (c *Config) check() error {
	var wrong []error
	bad := func(key, format string, args ...any) {
		wrong = append(wrong, fmt.Errorf(key+": "+format, args...))
	}
	if c.Name == "" {
		bad("name", "the host has no name; give the relay one with --name")
	} else if len(c.Name) > 253 || strings.ContainsFunc(c.Name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		bad("name", "%q is not 1 to 253 printable characters without spaces", c.Name)
	}
	for key, addr := range map[string]string{"listen": c.Listen, "metricsAddress": c.MetricsAddress} {
		if err := checkAddress(addr); err != nil {
			bad(key, "%w", err)
		}
	}
	if c.Address != "" {
		if err := checkAddress(c.Address); err != nil {
			bad("address", "%w", err)
		} else if strings.HasPrefix(c.Address, ":") || len(c.Address) > 255 {
			bad("address", "%q has no host, or more than 255 characters: give what gateways can dial", c.Address)
		}
	}
	if c.Listen == c.MetricsAddress {
		bad("metricsAddress", "%s is also the address of listen", c.Listen)
	}
	for _, a := range c.Advertise {
		if !validName(a) {
			bad("advertise", "%q is neither an IP address nor a DNS name (no port, no scheme)", a)
		}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "%q is not debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		bad("log.format", "%q is not text or json", c.Log.Format)
	}
	if c.API.QPS < 1 || c.API.QPS > 1e5 {
		bad("api.qps", "%v is not between 1 and 100000", c.API.QPS)
	}
	if c.API.Burst < 1 || c.API.Burst > 1e5 {
		bad("api.burst", "%d is not between 1 and 100000", c.API.Burst)
	}
	if c.API.Writers < 1 || c.API.Writers > 1000 {
		bad("api.writers", "%d is not between 1 and 1000", c.API.Writers)
	}
	if c.Devices.WriteInterval < time.Millisecond || c.Devices.WriteInterval > time.Hour {
		bad("devices.writeInterval", "%v is not between 1ms and 1h", c.Devices.WriteInterval)
	}
	if c.Lease.Duration < 4*time.Second || c.Lease.Duration > time.Hour || c.Lease.Duration%time.Second != 0 {
		bad("lease.duration", "%v is not a whole number of seconds between 4s and 1h", c.Lease.Duration)
	}
	if c.Lease.Interval < time.Second || c.Lease.Interval > c.Lease.Duration/2 {
		bad("lease.interval", "%v is not between 1s and half of lease.duration (%v)", c.Lease.Interval, c.Lease.Duration)
	}
	if c.Enroll.CertificateLifetime < 10*time.Second || c.Enroll.CertificateLifetime > maxLifetime {
		bad("enroll.certificateLifetime", "%v is not between 10s and %dh: gateways renew by themselves, also after the end, so a longer life is of no use", c.Enroll.CertificateLifetime, maxLifetime/time.Hour)
	}
	c.Autonomy.check(bad)
	c.Limits.check(bad)
	c.Kubelet.check(bad)
	c.Drain.check(bad)
	c.Memory.check(bad)
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(wrong...)
}

func checkAddress(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: %q is not a port number", addr, port)
	}
	if host != "" && net.ParseIP(host) == nil && !validName(host) {
		return fmt.Errorf("%q: %q is neither an IP address nor a host name", addr, host)
	}
	return nil
}

// validName accepts IP addresses and DNS names (RFC 1123).
func validName(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
			return false
		}
	}
	return true
}
