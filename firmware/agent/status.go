package agent

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/push"
	"github.com/skerry/skerry/firmware/update"
	"github.com/skerry/skerry/mappers/device"
)

// Status is the whole state of an agent as `skerryd status` and the status socket tell it.
type Status struct {
	Node    string      `json:"node"`
	Version string      `json:"version"`
	Started time.Time   `json:"started"`
	PID     int         `json:"pid"`
	Link    link.Status `json:"link"`
	// Certificate is this gateway's own.
	Certificate identity.RenewStatus `json:"certificate"`

	Store   StoreStatus    `json:"store"`
	Pods    []PodStatus    `json:"pods"`
	Devices []DeviceStatus `json:"devices"`
	Runtime string         `json:"runtime"` // name and version, or why the container runtime cannot be used
	Network string         `json:"network"` // which network pods have, or why none; "" without pods
	Memory  MemoryStatus   `json:"memory"`
	Health  HealthStatus   `json:"health"`
	// History is nil where device values are not kept.
	History *HistoryStatus `json:"history,omitempty"`
	// Push are the targets that values of devices are pushed to.
	Push []push.TargetStatus `json:"push,omitempty"`
	// MQTT is nil without a broker.
	MQTT *MQTTStatus `json:"mqtt,omitempty"`
	// Update is nil where the system is not updated by Skerry. NoUpdates says why that is so, or why no orders are taken.
	Update    *update.Status `json:"update,omitempty"`
	NoUpdates string         `json:"noUpdates,omitempty"`
}

// StoreStatus says whether what is promised can be kept.
type StoreStatus struct {
	Objects       int    `json:"objects"`       // desired objects held
	Error         string `json:"error"`         // why the store cannot be written now
	Recovered     string `json:"recovered"`     // what was found damaged at the start
	OutboxPending int    `json:"outboxPending"` // events that wait for the relay
	OutboxDropped uint64 `json:"outboxDropped"` // events given up because the outbox was full
}

// PodStatus is one pod on this gateway.
type PodStatus struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Phase     string `json:"phase"`
	Ready     string `json:"ready"` // "1/2"
	Restarts  int    `json:"restarts"`
	Reason    string `json:"reason"`
}

// DeviceStatus is one device on this gateway.
type DeviceStatus struct {
	Namespace  string    `json:"namespace"`
	Name       string    `json:"name"`
	Protocol   string    `json:"protocol"`
	State      string    `json:"state"`
	Points     int       `json:"points"`
	Good       int       `json:"good"` // points whose quality is good
	LastOnline time.Time `json:"lastOnline"`
	Reason     string    `json:"reason"`
	// Alarms are those that are not normal, the gravest first.
	Alarms []AlarmStatus `json:"alarms"`
}

// AlarmStatus is one alarm of a device (docs/derived.md).
type AlarmStatus struct {
	Name     string    `json:"name"`
	Property string    `json:"property"`
	Severity string    `json:"severity"`
	Level    string    `json:"level"` // High, HighHigh, Low, LowLow, Active, BadQuality
	Since    time.Time `json:"since"`
	Message  string    `json:"message"`
}

// MemoryStatus is what the kernel accounts to the agent.
type MemoryStatus struct {
	RSSBytes int64 `json:"rssBytes"`
	PSSBytes int64 `json:"pssBytes"`
}

func (a *Agent) status() any {
	s := Status{
		Node: a.cfg.Node.Name, Version: skerry.Version, Started: a.started, PID: os.Getpid(),
		Link: a.link.Status(), Certificate: a.renewer.Status(), Store: a.storeStatus(), Runtime: "not used (pods.enabled is false)", Memory: memory(), History: a.historyStatus(), MQTT: a.mqttStatus(),
		Health: a.healthStatus(),
	}
	s.NoUpdates = a.updates.why
	if u := a.updates.updater; u != nil {
		st := u.Status()
		s.Update = &st
	}
	if a.pods != nil {
		if p := a.pods.Status(); p.RuntimeReady {
			s.Runtime = p.Runtime
		} else {
			s.Runtime = "NOT READY: " + p.RuntimeError
		}
		s.Network = a.network.Status()
		for _, p := range a.pods.List() {
			s.Pods = append(s.Pods, PodStatus{
				Namespace: p.Namespace, Name: p.Name, Phase: p.Phase, Restarts: p.Restarts,
				Ready: fmt.Sprintf("%d/%d", p.Ready, p.Containers), Reason: p.Reason,
			})
		}
	}
	if a.push != nil {
		s.Push = a.push.Status()
	}
	if a.devices != nil {
		for _, d := range a.devices.Status() {
			s.Devices = append(s.Devices, deviceStatus(d))
		}
	}
	return s
}

func deviceStatus(d devices.DeviceState) DeviceStatus {
	out := DeviceStatus{Namespace: d.Namespace, Name: d.Name, Protocol: d.Protocol, State: d.State, Points: len(d.Properties), LastOnline: d.LastOnline}
	for _, p := range d.Properties {
		if p.Quality == device.Good {
			out.Good++
		}
	}
	if !d.Ready {
		out.Reason = strings.TrimSuffix(d.Reason+": "+d.Message, ": ")
	}
	for _, a := range d.Alarms {
		out.Alarms = append(out.Alarms, AlarmStatus{Name: a.Name, Property: a.Property, Severity: a.Severity, Level: a.Level, Since: a.Since, Message: a.Message})
	}
	return out
}

func (a *Agent) storeStatus() StoreStatus {
	out := a.outbox.Stats()
	s := StoreStatus{Objects: a.desired.Len(), Recovered: a.store.Recovery().String(), OutboxPending: out.Pending, OutboxDropped: out.Dropped}
	if err := a.store.Err(); err != nil {
		s.Error = err.Error()
	}
	return s
}

// memory reads what proc(5) calls smaps_rollup; zero where the kernel does not have it.
func memory() MemoryStatus {
	var m MemoryStatus
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if len(f) == 0 {
			continue
		}
		kb, err := strconv.ParseInt(f[0], 10, 64)
		switch {
		case err != nil:
		case name == "Rss":
			m.RSSBytes = kb << 10
		case name == "Pss":
			m.PSSBytes = kb << 10
		}
	}
	return m
}

// Print writes the status for a person: first what is wrong, then the tables.
func (s Status) Print(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "node      %s   skerryd %s, up %s, %.1f MB\n", s.Node, s.Version, age(now, s.Started), float64(s.Memory.PSSBytes)/1e6)
	switch l := s.Link; {
	case l.Connected && l.InSync:
		fmt.Fprintf(w, "relay     connected to %s for %s, in sync\n", l.Address, age(now, l.Since))
	case l.Connected:
		fmt.Fprintf(w, "relay     connected to %s for %s, catching up\n", l.Address, age(now, l.Since))
	default:
		fmt.Fprintf(w, "relay     NOT CONNECTED: %s\n", l.LastError)
	}
	s.printCertificate(w)
	fmt.Fprintf(w, "store     %d objects, %d events waiting, %d dropped\n", s.Store.Objects, s.Store.OutboxPending, s.Store.OutboxDropped)
	if s.Store.Error != "" {
		fmt.Fprintf(w, "          CANNOT WRITE: %s\n", s.Store.Error)
	}
	if s.Store.Recovered != "" {
		fmt.Fprintf(w, "          recovered at the start: %s\n", s.Store.Recovered)
	}
	s.Health.print(w, now)
	s.History.print(w)
	printPush(w, s.Push, now)
	s.MQTT.print(w)
	if u := s.Update; u != nil {
		fmt.Fprintf(w, "system    version %s in slot %s", u.Running, u.Slot)
		if u.Phase != update.Idle {
			fmt.Fprintf(w, "; update %s: %s", u.Phase, u.Message)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "runtime   %s\n", s.Runtime)
	if s.Network != "" {
		fmt.Fprintf(w, "network   %s\n", s.Network)
	}
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	if len(s.Pods) > 0 {
		fmt.Fprintln(t, "\nPOD\tREADY\tPHASE\tRESTARTS\tREASON")
		for _, p := range s.Pods {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%d\t%s\n", p.Namespace, p.Name, p.Ready, p.Phase, p.Restarts, p.Reason)
		}
	}
	if len(s.Devices) > 0 {
		fmt.Fprintln(t, "\nDEVICE\tPROTOCOL\tSTATE\tGOOD\tLAST ONLINE\tREASON")
		for _, d := range s.Devices {
			fmt.Fprintf(t, "%s/%s\t%s\t%s\t%d/%d\t%s\t%s\n", d.Namespace, d.Name, d.Protocol, d.State, d.Good, d.Points, age(now, d.LastOnline), d.Reason)
		}
	}
	if slices.ContainsFunc(s.Devices, func(d DeviceStatus) bool { return len(d.Alarms) > 0 }) {
		fmt.Fprintln(t, "\nALARM\tDEVICE\tSEVERITY\tLEVEL\tFOR\tWHY")
		for _, d := range s.Devices {
			for _, a := range d.Alarms {
				fmt.Fprintf(t, "%s\t%s/%s\t%s\t%s\t%s\t%s\n", a.Name, d.Namespace, d.Name, a.Severity, a.Level, age(now, a.Since), a.Message)
			}
		}
	}
	_ = t.Flush() // w is a terminal or a buffer: nobody could be told
}

func (s Status) printCertificate(w io.Writer) {
	c := s.Certificate
	switch {
	case c.NotAfter.IsZero():
		fmt.Fprintln(w, "identity  none: this gateway has not joined, or its identity cannot be read")
	case c.LastError != "":
		fmt.Fprintf(w, "identity  certificate until %s, RENEWAL FAILS since %s: %s\n", stamp(c.NotAfter), stamp(c.FailingSince), c.LastError)
	default:
		fmt.Fprintf(w, "identity  certificate until %s, to be renewed on %s\n", stamp(c.NotAfter), stamp(c.RenewAt))
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func age(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	d := now.Sub(then)
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
