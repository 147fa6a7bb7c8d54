package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/rauc"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/update"
	"github.com/skerry/skerry/firmware/update/raucclient"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// updates is what the agent has for its updates. The zero value is a gateway whose system is not updated by Skerry.
type updates struct {
	updater *update.Updater // nil: why says the reason
	why     string          // no orders are taken

	mu      sync.Mutex
	read    wire.Version // of the Node that want was read from
	want    *update.Order
	since   time.Time // the condition is as it is
	last    string    // its status, reason and message
	refused string    // the annotation that makes no sense, so that it is told of once
}

// UpdatesDir is where the agent keeps what it must remember of updates, and bundles.
func UpdatesDir(cfg config.Config) string { return filepath.Join(cfg.DataDir, "updates") }

// bundleReserve is what a bundle leaves free of the disk: the store has to go on.
const bundleReserve = 64 << 20

// newUpdates looks whether this system can be updated: a board with slots, booted by the script.
func (a *Agent) newUpdates(root string) error {
	u := &a.updates
	u.since = a.started
	cmdline, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	slot, slotErr := rauc.Current(string(cmdline))
	storage := a.board.Storage
	switch {
	case err != nil:
		u.why = err.Error()
	case storage == nil || len(storage.Slots) == 0:
		u.why = "the system of board " + a.board.Name + " is not updated by Skerry"
	case slotErr != nil:
		u.why = slotErr.Error()
	}
	if u.why != "" {
		return nil
	}
	paths, err := rauc.Paths(storage.Environment)
	if err != nil {
		return fmt.Errorf("board %s: %w", a.board.Name, err)
	}
	id, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return err
	}
	if !a.cfg.Update.Enabled { // the slot that runs is confirmed all the same: each boot takes a try from it
		u.why = "updates are switched off (update.enabled)"
	} else if _, err := a.updateClient(); err != nil {
		a.log.Warn("no bundle can be downloaded until this is mended; bundles on a stick can be installed", "part", "update", "error", err)
	}
	p := update.DefaultPolicy()
	c := a.cfg.Update
	p.Compatible, p.Stable, p.HealthTimeout, p.WithoutCloud, p.DrainTimeout = rauc.Compatible(a.board.Name), c.Stable, c.HealthTimeout, c.WithoutCloud, c.DrainTimeout
	rootDevice, _, err := rauc.SlotPaths(storage, slot)
	if err != nil {
		return fmt.Errorf("board %s: %w", a.board.Name, err)
	}
	download := update.Downloader{Client: a.updateClient, Rate: int64(c.RateLimit), Reserve: bundleReserve, Seeds: seeds(storage, slot), Most: update.BundleOf(seeds(storage, slot.Other()))}
	warn, note := a.warnNode, a.noteNode
	u.updater, err = update.New(update.Options{
		Policy: p, Dir: UpdatesDir(a.cfg), Slot: slot, BootID: strings.TrimSpace(string(id)), Version: imageVersion(root),
		Slots: slots(paths), RAUC: raucclient.Client{}, Download: download.Download, Fatal: update.Fatal, Reboot: a.rebootForUpdate, Facts: a.updateFacts, Closed: !c.Enabled,
		Check: func(ctx context.Context) error { return rauc.CheckRoot(ctx, rootDevice, string(cmdline)) },
		Tell: func(warning bool, reason, message string) {
			if warning {
				warn(reason)(message)
			} else {
				note(reason, message)
			}
		},
		Log: a.log.With("part", "update"),
	})
	return err
}

// updateClient speaks with the server that has the bundles. It goes through the proxy that relays are reached by.
func (a *Agent) updateClient() (*http.Client, error) {
	t := &http.Transport{DialContext: a.dial, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: time.Minute, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if file := a.cfg.Update.CAFile; file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // root's configuration names it
		if err != nil {
			return nil, fmt.Errorf("update.caFile: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("update.caFile: %s holds no certificate in PEM", file)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	secure := func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) > 5 {
			return errors.New("the server sends the gateway elsewhere: at most five times, and to https:// only")
		}
		return nil
	}
	return &http.Client{Transport: t, CheckRedirect: secure}, nil
}

// imageVersion is that of the system, which the image says; where it does not, the agent's own.
func imageVersion(root string) string {
	var image struct {
		Version string `json:"version"`
	}
	b, err := os.ReadFile(filepath.Join(root, "usr/lib/skerry/image.json"))
	if err != nil || json.Unmarshal(b, &image) != nil || image.Version == "" {
		return skerry.Version
	}
	return image.Version
}

// seeds are the partitions of a slot. What those of the one that runs hold need not be downloaded.
func seeds(s *board.Storage, of bootenv.Slot) (paths []string) {
	for _, slot := range s.Slots {
		if slot.Name == string(of) {
			paths = append(paths, "/dev/disk/by-partlabel/"+slot.Root, "/dev/disk/by-partlabel/"+slot.Boot)
		}
	}
	return paths
}

// slots is the boot environment, opened for each write: RAUC's back end writes it, too.
type slots [2]string

func (s slots) Read() (bootenv.Env, error) {
	e, c, err := bootenv.Peek(s)
	if err == nil && c.Lost() {
		err = fmt.Errorf("both copies of the boot environment are damaged: %w", errors.Join(c.Problems[:]...))
	}
	return e, err
}

func (s slots) Confirm(slot bootenv.Slot) error {
	return s.update(func(e *bootenv.Env) { e.Confirm(slot) })
}

func (s slots) GiveUp(slot bootenv.Slot) error {
	return s.update(func(e *bootenv.Env) { e.SetGood(slot, false) })
}

func (s slots) update(change func(*bootenv.Env)) error {
	d, err := bootenv.Open(s)
	if err != nil {
		return err
	}
	_, err = d.Update(func(e *bootenv.Env) error { change(e); return nil })
	return errors.Join(err, d.Close())
}

// rebootForUpdate restarts the machine; the journal knows why, and a watchdog that the agent holds watches over the restart, too.
func (a *Agent) rebootForUpdate(ctx context.Context) error {
	if j := a.health.journal.Load(); j != nil {
		if err := j.Planned("an update of the system goes on in the other slot, or back in this one"); err != nil {
			a.log.Warn("the next start will not be known as one of an update", "error", err)
		}
	}
	a.health.goingDown.Store(true)
	return reboot(ctx)
}

// reboot has systemd restart the machine; skerry-shutdown.service ends the pods before.
func reboot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if said, err := exec.CommandContext(ctx, "systemctl", "reboot").CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl reboot: %w: %s", err, strings.TrimSpace(string(said)))
	}
	return nil
}

// updateFacts gathers what an update looks at. What is costly is only looked at while one is under way.
func (a *Agent) updateFacts() update.Facts {
	now := time.Now()
	f := update.Facts{Want: a.wantedUpdate(), Up: uptime("/proc/uptime"), Linked: a.link.Status().Sessions > 0}
	_, f.Unhealthy = a.beats.registry.Healthy(now)
	if a.pods != nil {
		if s := a.pods.Status(); !s.RuntimeReady {
			f.Unhealthy = append(f.Unhealthy, "the container runtime: "+s.RuntimeError)
		}
	}
	if w, err := update.ParseWindow(a.cfg.Update.Window); err == nil {
		f.Window = w.Open(now)
	}
	phase := a.updates.updater.Status().Phase
	if phase == update.Idle {
		return f
	}
	if g := a.disk.guard; phase == update.Trying && g != nil && g.State().ReadOnly { // of a slot that was good before it says nothing
		f.Unhealthy = append(f.Unhealthy, "the disk: "+g.State().Message)
	}
	f.Power = onBattery("/sys/class/power_supply")
	a.podFacts(&f)
	if a.devices != nil {
		for _, d := range a.devices.Status() {
			if d.State == "online" {
				f.Working.Devices = append(f.Working.Devices, d.Namespace+"/"+d.Name)
			}
		}
		for _, o := range a.desired.List(wire.KindDevice) {
			f.Desired.Devices = append(f.Desired.Devices, shortName(o.Key))
		}
	}
	return f
}

func (a *Agent) podFacts(f *update.Facts) {
	if a.pods == nil {
		return
	}
	var desired []corev1.Pod
	for _, o := range a.desired.List(wire.KindPod) {
		var pod corev1.Pod
		if _, err := pod.UnmarshalMsg(o.Body); err == nil {
			desired = append(desired, pod)
		}
	}
	sortPods(f, a.pods.List(), desired)
}

// sortPods says which pods work, are wanted, and must not be interrupted. One that ends by itself is waited for, but not missed after the restart: that may have ended it.
func sortPods(f *update.Facts, have []pods.PodState, desired []corev1.Pod) {
	running, ending := map[string]bool{}, map[string]bool{}
	for _, p := range have {
		running[p.Namespace+"/"+p.Name] = p.Phase == "Running"
	}
	for i := range desired {
		pod := &desired[i]
		name := pod.Metadata.Namespace + "/" + pod.Metadata.Name
		ends := pod.Spec.RestartPolicy == "Never" || pod.Spec.RestartPolicy == "OnFailure"
		if ending[name] = ends; !ends {
			f.Desired.Pods = append(f.Desired.Pods, name)
		}
		if running[name] && (ends || pod.Metadata.Annotations[update.AnnotationHold] == "true") {
			f.Busy = append(f.Busy, name)
		}
	}
	for _, p := range have {
		if name := p.Namespace + "/" + p.Name; running[name] && !ending[name] && p.Ready == p.Containers {
			f.Working.Pods = append(f.Working.Pods, name)
		}
	}
	slices.Sort(f.Busy)
}

// shortName is NAMESPACE/NAME of a key.
func shortName(k wire.Key) string {
	parts := strings.SplitN(string(k), "/", 3)
	return parts[len(parts)-2] + "/" + parts[len(parts)-1]
}

// wantedUpdate reads the order from the Node, when that has changed.
func (a *Agent) wantedUpdate() *update.Order {
	o, ok := a.desired.Get(wire.NewKey(wire.KindNode, "", a.cfg.Node.Name, ""))
	u := &a.updates
	u.mu.Lock()
	defer u.mu.Unlock()
	if !ok || o.Absent {
		return u.want // a node that is not known for a while withdraws nothing
	}
	if o.Version == u.read {
		return u.want
	}
	var node corev1.Node
	if _, err := node.UnmarshalMsg(o.Body); err != nil {
		return u.want
	}
	u.read, u.want = o.Version, nil
	text, ok := node.Metadata.Annotations[update.AnnotationOrder]
	if !ok {
		return nil
	}
	order, err := update.ParseOrder(text)
	if err != nil {
		if u.refused != text {
			u.refused = text
			a.warnNode("UpdateRefused")(fmt.Sprintf("the annotation %s is not obeyed: %v", update.AnnotationOrder, err))
		}
		return nil
	}
	u.want = &order
	return u.want
}

func uptime(path string) time.Duration {
	b, err := os.ReadFile(path) //nolint:gosec // proc's
	if err != nil {
		return 0
	}
	seconds, _, _ := strings.Cut(string(b), " ")
	s, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}

// onBattery says why nothing must be written to the flash that may not be interrupted, where there are power supplies that tell.
func onBattery(dir string) string {
	supplies, err := filepath.Glob(filepath.Join(dir, "*", "online"))
	if err != nil {
		return ""
	}
	mains := 0
	for _, path := range supplies {
		kind, err := os.ReadFile(filepath.Join(filepath.Dir(path), "type"))
		if err != nil || strings.TrimSpace(string(kind)) != "Mains" {
			continue
		}
		mains++
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == "1" { //nolint:gosec // sysfs
			return ""
		}
	}
	if mains == 0 {
		return ""
	}
	return "runs on battery"
}

// condition is the Node's. It changes with the phase, and with what is waited for.
func (u *updates) condition(now time.Time) []corev1.Condition {
	if u.updater == nil {
		return nil
	}
	s := u.updater.Status()
	c := corev1.Condition{Type: update.Condition, Status: "False", Reason: "NoUpdate", Message: "version " + s.Running + " runs in slot " + string(s.Slot)}
	if s.Phase != update.Idle {
		c.Status, c.Reason, c.Message = "True", string(s.Phase), s.Message
		if p := s.Percent / 10 * 10; p > 0 { // in tens: each text is a write to the cluster
			c.Message += fmt.Sprintf(" (%d %%)", p)
		}
	} else if s.Message != "" { // how the last one has ended, or what is wrong since
		c.Message += "; " + s.Message
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if text := c.Status + c.Reason; text != u.last {
		u.last, u.since = text, now
	}
	c.LastTransitionTime, c.LastHeartbeatTime = corev1.NewTime(u.since), corev1.NewTime(u.since)
	return []corev1.Condition{c}
}

// annotation is the Node's: what skerryctl and roll-outs read.
func (u *updates) annotation() string {
	if u.updater == nil {
		return ""
	}
	s := u.updater.Status()
	s.Percent = s.Percent / 10 * 10
	b, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(b)
}
