package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/eviction"
	"github.com/skerry/skerry/firmware/pods"
)

// DefaultPath is where the configuration file is if nobody says otherwise.
const DefaultPath = "/etc/skerry/skerryd.yaml"

// Config is everything that can be set. The yaml names are the documented keys.
type Config struct {
	Node        Node     `yaml:"node"`
	Board       Board    `yaml:"board"`
	Relay       Relay    `yaml:"relay"`
	DataDir     string   `yaml:"dataDir"`
	IdentityDir string   `yaml:"identityDir"`
	Runtime     Runtime  `yaml:"runtime"`
	Pods        Pods     `yaml:"pods"`
	Devices     Devices  `yaml:"devices"`
	DMI         DMI      `yaml:"dmi"`
	MQTT        MQTT     `yaml:"mqtt"`
	Memory      Memory   `yaml:"memory"`
	Store       Store    `yaml:"store"`
	Update      Update   `yaml:"update"`
	Log         Log      `yaml:"log"`
	Metrics     Metrics  `yaml:"metrics"`
	Socket      string   `yaml:"socket"`
	Control     Control  `yaml:"control"`
	Watchdog    Watchdog `yaml:"watchdog"`
}

// Board says what hardware this is (package board).
type Board struct {
	Name string `yaml:"name"` // empty: it is recognised
	Dir  string `yaml:"dir"`  // of boards on the device, which go before those that are built in
}

// Node names this gateway, and says how it looks after itself.
type Node struct {
	Name     string            `yaml:"name"`
	Labels   map[string]string `yaml:"labels,omitempty"`
	Taints   []string          `yaml:"taints,omitempty"` // KEY=VALUE:EFFECT or KEY:EFFECT, when the node is made
	Reserved map[string]string `yaml:"reserved,omitempty"`
	Eviction Eviction          `yaml:"eviction"`
	Shutdown Shutdown          `yaml:"shutdown"`
}

// Eviction says when the node runs short. The maps are by signal, see package eviction.
type Eviction struct {
	Hard              map[string]string        `yaml:"hard"`
	Soft              map[string]string        `yaml:"soft,omitempty"`
	SoftGracePeriod   map[string]time.Duration `yaml:"softGracePeriod,omitempty"`
	MinimumReclaim    map[string]string        `yaml:"minimumReclaim,omitempty"`
	TransitionPeriod  time.Duration            `yaml:"pressureTransitionPeriod"`
	MaxPodGracePeriod time.Duration            `yaml:"maxPodGracePeriod"`
}

// Rules returns the thresholds as they are configured.
func (e Eviction) Rules() eviction.Rules {
	return eviction.Rules{Hard: e.Hard, Soft: e.Soft, Grace: e.SoftGracePeriod, Reclaim: e.MinimumReclaim}
}

// Shutdown says how long pods have to end when the gateway is shut down.
type Shutdown struct {
	GracePeriod             time.Duration `yaml:"gracePeriod"`
	GracePeriodCriticalPods time.Duration `yaml:"gracePeriodCriticalPods"`
}

// Relay says where the relays are and how patient the link is.
type Relay struct {
	Addresses  []string      `yaml:"addresses"`
	Proxy      string        `yaml:"proxy"`
	Heartbeat  time.Duration `yaml:"heartbeat"`
	MaxBackoff time.Duration `yaml:"maxBackoff"`
}

// Runtime is the container runtime.
type Runtime struct {
	Endpoint     string `yaml:"endpoint"`
	CgroupParent string `yaml:"cgroupParent"`
	// LostAfter is how long the runtime must not have known of a shim, a network namespace or an address of a pod before it is removed. 0: never.
	LostAfter time.Duration `yaml:"lostAfter"`
}

// Pods is about pods on this gateway.
type Pods struct {
	Enabled   bool   `yaml:"enabled"`
	RootDir   string `yaml:"rootDir"`
	LogDir    string `yaml:"logDir"`
	StaticDir string `yaml:"staticDir"`
	Max       int    `yaml:"max"`
	Pids      int64  `yaml:"pidsLimit"`
	// Sysctls that pods may set beside the safe ones.
	Sysctls []string `yaml:"allowedUnsafeSysctls"`
	Logs    Logs     `yaml:"logs"`
	Images  Images   `yaml:"images"`
	Users   Users    `yaml:"userNamespaces"`

	ClusterDomain   string        `yaml:"clusterDomain"`
	ClusterDNS      []string      `yaml:"clusterDNS"` // addresses
	ResolvConf      string        `yaml:"resolvConf"`
	Network         Network       `yaml:"network"`
	MaxRestartDelay time.Duration `yaml:"maxRestartDelay"` // of containers that end again and again
}

// Images says when images that nobody uses are removed: percent of the disk in use.
type Images struct {
	High int `yaml:"highThreshold"`
	Low  int `yaml:"lowThreshold"`
	// Parallel is how many images are pulled at a time (0: as the board's budget allows), PrePull which ones ahead of their pods.
	Parallel int      `yaml:"parallelPulls"`
	PrePull  []string `yaml:"prePull"`
	// StallTimeout is after how long a pull that gets nothing is ended.
	StallTimeout time.Duration `yaml:"stallTimeout"`
	// Verification is who may use private images that are on the disk, in the kubelet's words.
	Verification string `yaml:"credentialVerification"`
}

// Users are the user and group ids of the machine that pods with a user namespace of their own get, 65536 each. 0: found out.
type Users struct {
	First uint32 `yaml:"firstID"`
	Count uint32 `yaml:"count"`
}

// Network is the pods' own network, where no other CNI makes one.
type Network struct {
	Enabled    bool     `yaml:"enabled"`
	CIDRs      []string `yaml:"cidrs"` // where the cluster gives the node none
	Masquerade bool     `yaml:"masquerade"`
	MTU        int      `yaml:"mtu"`
	Dir        string   `yaml:"dir"` // of CNI configurations; empty: the runtime's
}

// Logs bounds the logs of each container.
type Logs struct {
	MaxSize  Bytes `yaml:"maxSize"`
	MaxFiles int   `yaml:"maxFiles"`
}

// Devices is about devices on this gateway.
type Devices struct {
	Enabled bool    `yaml:"enabled"`
	History History `yaml:"history"`
	Push    Push    `yaml:"push"`
}

// Push bounds what is pushed to the targets of devices' pushMethods.
type Push struct {
	// MaxTargets is how many targets there may be; 0: nothing is pushed.
	MaxTargets int `yaml:"maxTargets"`
	// BatchValues and BatchInterval say when what is collected is sent: so many values, or so long after the first.
	BatchValues   int           `yaml:"batchValues"`
	BatchInterval time.Duration `yaml:"batchInterval"`
	// QueueValues is how many values without a history wait in memory for a target.
	QueueValues int `yaml:"queueValues"`
	// Credentials is the file that says how to log in to targets.
	Credentials string `yaml:"credentials"`
}

// History bounds what is kept of device values. MaxBytes 0: nothing is.
type History struct {
	MaxBytes    Bytes `yaml:"maxBytes"`
	DeviceBytes Bytes `yaml:"deviceBytes"` // of one device; 0: a quarter
	// DeviceMetrics is how many devices have figures of their own on /metrics at most; 0: none.
	DeviceMetrics int `yaml:"deviceMetrics"`
}

// Memory is the agent's own.
type Memory struct {
	Limit Limit `yaml:"limit"`
}

// Limit is an amount of memory, or what the board's budget allows.
type Limit struct {
	Given bool  // else it is the board's
	Bytes Bytes // 0: none
}

const fromBoard = "board"

// UnmarshalYAML reads an amount or the word board.
func (l *Limit) UnmarshalYAML(n *yaml.Node) error {
	if *l = (Limit{}); n.Value == fromBoard {
		return nil
	}
	l.Given = true
	if err := l.Bytes.UnmarshalYAML(n); err != nil {
		return fmt.Errorf("%w; or %s: what its budget allows", err, fromBoard)
	}
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
func (l Limit) MarshalYAML() (any, error) { return l.String(), nil }

func (l Limit) String() string {
	if !l.Given {
		return fromBoard
	}
	return l.Bytes.String()
}

// Store is about durability.
type Store struct {
	Window time.Duration `yaml:"window"`
}

// Log is about the agent's own log, which goes to standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// Metrics is where Prometheus finds the agent.
type Metrics struct {
	Address string `yaml:"address"`
}

// Control is the service that `skerryctl device` asks.
type Control struct {
	Enabled bool   `yaml:"enabled"`
	Socket  string `yaml:"socket"` // empty: control.sock in the folder of the status socket
}

// DefaultControlSocket is where the control service is if nobody says otherwise.
const DefaultControlSocket = "/run/skerry/control.sock"

// Defaults returns the configuration of an empty file, before node.name and the paths that follow from dataDir are derived.
func Defaults() Config {
	return Config{
		Node: Node{
			Eviction: Eviction{Hard: eviction.DefaultHard(), TransitionPeriod: 5 * time.Minute, MaxPodGracePeriod: 30 * time.Second},
			Shutdown: Shutdown{GracePeriod: 30 * time.Second, GracePeriodCriticalPods: 10 * time.Second},
		},
		Board:   Board{Dir: board.DefaultDir},
		Relay:   Relay{Heartbeat: 15 * time.Second, MaxBackoff: 30 * time.Second},
		DataDir: "/var/lib/skerry",
		Runtime: Runtime{Endpoint: "unix:///run/containerd/containerd.sock", CgroupParent: "/skerry", LostAfter: 5 * time.Minute},
		Pods: Pods{Enabled: true, LogDir: "/var/log/pods", StaticDir: "/etc/skerry/pods", Max: 50, Pids: 4096, Sysctls: []string{}, Logs: Logs{MaxSize: 5 << 20, MaxFiles: 3}, Images: Images{High: 85, Low: 80, PrePull: []string{}, StallTimeout: 10 * time.Minute, Verification: pods.CheckPulled}, ClusterDomain: "cluster.local", MaxRestartDelay: 5 * time.Minute,
			ClusterDNS: []string{}, Network: Network{Enabled: true, CIDRs: []string{}, Masquerade: true}},
		Devices:  Devices{Enabled: true, History: History{MaxBytes: 64 << 20}, Push: Push{MaxTargets: 8, BatchValues: 500, BatchInterval: time.Second, QueueValues: 1000, Credentials: "/etc/skerry/push.yaml"}},
		DMI:      defaultDMI(),
		MQTT:     defaultMQTT(),
		Store:    Store{Window: time.Second},
		Update:   defaultUpdate(),
		Log:      Log{Format: "text"},
		Metrics:  Metrics{Address: "127.0.0.1:10270"},
		Socket:   "/run/skerry/skerryd.sock",
		Control:  Control{Enabled: true},
		Watchdog: Watchdog{Mode: WatchdogAuto, Stop: StopAuto},
	}
}

const maxFile = 1 << 20

// Load reads and checks the file at path. The error of a missing file says how to begin.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("no configuration file %s: the least that it must hold is relay.addresses (see docs/configuration.md): %w", path, err)
	}
	if err != nil {
		return Config{}, fmt.Errorf("open the configuration: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration %s: %w", path, err)
	}
	if len(b) > maxFile {
		return Config{}, fmt.Errorf("configuration %s is larger than %d bytes", path, maxFile)
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks the text of a configuration file.
func Parse(text []byte) (Config, error) {
	c := Defaults()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if err := dec.Decode(new(Config)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("the file holds more than one YAML document")
	}
	if c.Node.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return Config{}, fmt.Errorf("node.name is not set and the host name cannot be read: %w", err)
		}
		c.Node.Name = nodeNameOf(name)
	}
	if c.IdentityDir == "" {
		c.IdentityDir = c.DataDir + "/identity"
	}
	if c.Pods.RootDir == "" {
		c.Pods.RootDir = c.DataDir + "/pods"
	}
	if c.Control.Socket == "" {
		c.Control.Socket = DefaultControlSocket
		if c.Socket != "" {
			c.Control.Socket = filepath.Join(filepath.Dir(c.Socket), "control.sock")
		}
	}
	if c.DMI.Socket == "" {
		c.DMI.Socket = DefaultDMISocket
		if c.Socket != "" {
			c.DMI.Socket = filepath.Join(filepath.Dir(c.Socket), "dmi.sock")
		}
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// YAML returns the configuration as a file that Parse reads back.
func (c Config) YAML() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encode the configuration: %w", err)
	}
	return b.Bytes(), nil
}
