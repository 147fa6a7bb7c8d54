package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/health"
)

// What is kept.
const (
	Boots      = 32        // boots in the journal
	Runs       = 8         // of the agent in one boot: the last
	Crashes    = 5         // crash files
	CrashBytes = 256 << 10 // of each
	maxFile    = 1 << 20   // a journal that is larger is not ours
)

// Reason is why a machine started.
type Reason string

// The reasons of resets.
const (
	First    Reason = "first"    // the journal begins here
	Shutdown Reason = "shutdown" // the agent had ended in order: the machine was shut down or restarted
	Update   Reason = "update"   // planned: another system was to be started
	Watchdog Reason = "watchdog"
	Panic    Reason = "panic" // of the kernel
	Power    Reason = "power" // the power failed, or somebody pressed the button
)

// The ways in which a run of the agent ends.
const (
	EndRunning = "running" // it is this one, or nobody knows yet
	EndStopped = "stopped" // in order
	EndCrashed = "crashed" // by a panic or a fatal error of its own; Detail begins with its first line
	EndMemory  = "memory"  // the kernel killed it for want of memory
	EndKilled  = "killed"  // by a signal that nobody can catch, or with the machine
	EndWedged  = "wedged"  // it was ended, or the machine reset, because it was wedged; Detail says what was
)

// Run is one run of the agent.
type Run struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Began   time.Time `json:"began"` // as the clock said
	End     string    `json:"end"`
	Detail  string    `json:"detail,omitempty"`
	File    string    `json:"file,omitempty"` // in the journal's folder: what is left of a crash
	Wedged  []string  `json:"wedged,omitempty"`
}

// Boot is one boot of the machine.
type Boot struct {
	Number  uint64    `json:"number"` // counts from 1
	ID      string    `json:"id"`     // the kernel's
	Began   time.Time `json:"began"`  // when the agent ran first, as the clock said
	Reason  Reason    `json:"reason"`
	Detail  string    `json:"detail,omitempty"`
	Planned string    `json:"planned,omitempty"` // why the next boot is to come
	Runs    []Run     `json:"runs"`
}

// News is something that happened since the agent ran last, to be told.
type News struct {
	Boot    bool   // the machine was started; else the agent alone
	Reason  string // of the machine's start, or the run's End
	Text    string
	Warning bool // it was not meant to happen
}

// Options configure a Journal. Dir is required.
type Options struct {
	Dir     string // of the journal alone; it is made
	Version string // of the agent
	Root    string // below which sys, proc and dev are; empty: /
	Log     *slog.Logger
}

// Journal is the open journal. All methods may be called concurrently.
type Journal struct {
	o   Options
	now func() time.Time

	mu    sync.Mutex
	boots []Boot // the oldest first; the last is this one
	crash *os.File
	disk  sync.Mutex // whoever writes; taken before mu. A disk that hangs keeps nobody from reading
}

const fileName = "boots.json"

// Open reads the journal, finds out how the last run of the agent ended and why the machine was started, notes that a new run has begun, and returns what is worth telling. An
// error means that nothing can be kept; the Journal returned with it works in memory.
func Open(o Options) (*Journal, []News, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{o: o, now: time.Now}
	if err := durable.MakeDir(o.Dir, 0o700); err != nil {
		return j, nil, fmt.Errorf("the journal of boots: %w", err)
	}
	if err := j.read(); err != nil {
		o.Log.Warn("the journal of boots cannot be read and begins anew", "file", j.path(fileName), "error", err)
		j.boots = nil
	}
	news := j.begin()
	return j, news, j.write()
}

func (j *Journal) path(name string) string { return filepath.Join(j.o.Dir, name) }

// read fills the journal. No file is an empty one.
func (j *Journal) read() error {
	b, err := readSome(j.path(fileName), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	j.boots, err = parse(b)
	return err
}

// parse reads a journal's text, and nothing beyond its bounds.
func parse(b []byte) ([]Boot, error) {
	var boots []Boot
	if err := json.Unmarshal(b, &boots); err != nil {
		return nil, err
	}
	if len(boots) > Boots {
		boots = boots[len(boots)-Boots:]
	}
	for i := range boots {
		if runs := boots[i].Runs; len(runs) > Runs {
			boots[i].Runs = runs[len(runs)-Runs:]
		}
	}
	return boots, nil
}

// write makes the journal durable. The lock is not held.
func (j *Journal) write() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	b, err := json.MarshalIndent(j.boots, "", " ")
	j.mu.Unlock()
	if err == nil {
		err = durable.Replace(j.path(fileName), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the journal of boots: %w", err)
	}
	return nil
}

// begin notes a new run, and in a new boot that one too.
func (j *Journal) begin() (news []News) {
	id := j.bootID()
	var last *Boot
	if n := len(j.boots); n > 0 {
		last = &j.boots[n-1]
	}
	same := last != nil && last.ID == id && id != ""
	if last != nil && len(last.Runs) > 0 {
		run := &last.Runs[len(last.Runs)-1]
		if run.End == EndRunning {
			j.close(run, same)
			if same {
				news = append(news, tellRun(run))
			}
		}
	}
	if !same {
		b := Boot{Number: 1, ID: id, Began: j.now().UTC(), Reason: First}
		if last != nil {
			b.Number = last.Number + 1
			b.Reason, b.Detail = j.why(last)
			news = append(news, tellBoot(&b, last))
		}
		j.boots = append(j.boots, b)
		if n := len(j.boots); n > Boots {
			j.boots = slices.Delete(j.boots, 0, n-Boots)
		}
	}
	b := &j.boots[len(j.boots)-1]
	b.Planned = "" // the agent runs: what was planned has happened, or does not
	b.Runs = append(b.Runs, Run{PID: os.Getpid(), Version: j.o.Version, Began: j.now().UTC(), End: EndRunning})
	if n := len(b.Runs); n > Runs {
		b.Runs = slices.Delete(b.Runs, 0, n-Runs)
	}
	return news
}

// close finds out how a run ended that did not say so. same: the machine has not been restarted since.
func (j *Journal) close(run *Run, same bool) {
	file, head := j.keepCrash(fmt.Sprintf("agent-%d-%d", len(j.boots), run.PID))
	run.File = file
	switch {
	case len(run.Wedged) > 0:
		run.End, run.Detail = EndWedged, strings.Join(run.Wedged, "; ")
	case head != "":
		run.End, run.Detail = EndCrashed, head
	case same && j.killedForMemory(run.PID):
		run.End, run.Detail = EndMemory, "the kernel killed it because the memory was used up"
	case same:
		run.End, run.Detail = EndKilled, "it ended without a word: killed by SIGKILL, or by the service manager"
	default:
		run.End, run.Detail = EndKilled, "it ended with the machine"
	}
}

func tellRun(run *Run) News {
	text := map[string]string{
		EndCrashed: "the agent crashed and was started again", EndMemory: "the agent was killed and was started again", EndKilled: "the agent was killed and was started again",
		EndWedged: "the agent was wedged and was started again",
	}[run.End]
	text += fmt.Sprintf(" (version %s, pid %d): %s", run.Version, run.PID, run.Detail)
	return News{Reason: run.End, Text: text + bundleHint, Warning: true}
}

const bundleHint = ". `skerryctl node diagnose NODE` (on the gateway: skerryctl diagnose) collects what there is"

func tellBoot(b, before *Boot) News {
	n := News{Boot: true, Reason: string(b.Reason), Warning: b.Reason != Shutdown && b.Reason != Update}
	n.Text = fmt.Sprintf("the gateway was started (boot %d, id %s): %s", b.Number, b.ID, b.Detail)
	if len(before.Runs) > 0 {
		if run := before.Runs[len(before.Runs)-1]; run.End == EndCrashed || run.End == EndWedged {
			n.Text += fmt.Sprintf("; before that the agent was %s: %s", run.End, run.Detail)
		}
	}
	if n.Warning {
		n.Text += bundleHint
	}
	return n
}

// Planned notes why the machine is about to be restarted, as an update: the next boot is told to be that.
func (j *Journal) Planned(why string) error {
	j.mu.Lock()
	if b := j.last(); b != nil {
		b.Planned = why
	}
	j.mu.Unlock()
	return j.write()
}

// Wedged notes durably what is wedged, with the stacks of all goroutines beside it. It is a watchdog's Record.
func (j *Journal) Wedged(faults []health.Fault) {
	stacks := allStacks()
	reasons := make([]string, 0, len(faults))
	for _, f := range faults {
		reasons = append(reasons, f.Reason)
	}
	lines := strings.Join(reasons, "; ")
	j.mu.Lock()
	run := j.lastRun()
	if run == nil {
		j.mu.Unlock()
		return
	}
	run.Wedged = reasons
	name := fmt.Sprintf("wedged-%d-%d.txt", len(j.boots), run.PID)
	run.File = name // it is written last: what is wedged matters more than the stacks
	j.mu.Unlock()

	j.tellKernel("the agent is wedged: " + lines)
	err := j.write()
	j.dropOldCrashes(Crashes - 1)
	err = errors.Join(err, durable.Replace(j.path(name), append([]byte(lines+"\n\n"), stacks...), 0o600))
	if err != nil {
		j.o.Log.Error("why the agent is wedged could not be recorded", "error", err)
	}
}

// Recovered takes back what Wedged noted.
func (j *Journal) Recovered() {
	j.mu.Lock()
	run := j.lastRun()
	wedged := run != nil && len(run.Wedged) > 0
	if wedged {
		run.Detail, run.Wedged = "it was wedged for a while: "+strings.Join(run.Wedged, "; "), nil
	}
	j.mu.Unlock()
	if !wedged {
		return
	}
	if err := j.write(); err != nil {
		j.o.Log.Warn("that the agent is no longer wedged could not be noted", "error", err)
	}
}

// Stopped notes that the agent ends in order.
func (j *Journal) Stopped() error {
	j.mu.Lock()
	run := j.lastRun()
	if run != nil {
		run.End = EndStopped
		j.closeCrash()
	}
	j.mu.Unlock()
	if run == nil {
		return nil
	}
	return j.write()
}

// Boots returns what is known, the oldest boot first. It is the caller's.
func (j *Journal) Boots() []Boot {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := slices.Clone(j.boots)
	for i := range out {
		out[i].Runs = slices.Clone(out[i].Runs)
	}
	return out
}

// Resets returns how many boots in a row, up to this one, the watchdog has begun.
func (j *Journal) Resets() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, b := range slices.Backward(j.boots) {
		if b.Reason != Watchdog {
			break
		}
		n++
	}
	return n
}

func (j *Journal) last() *Boot {
	if len(j.boots) == 0 {
		return nil
	}
	return &j.boots[len(j.boots)-1]
}

func (j *Journal) lastRun() *Run {
	b := j.last()
	if b == nil || len(b.Runs) == 0 {
		return nil
	}
	return &b.Runs[len(b.Runs)-1]
}
