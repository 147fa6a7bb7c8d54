package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/processtest"
)

// machine is a gateway of folders.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	m := &machine{t, t.TempDir()}
	m.put("dev/kmsg", "")
	m.boot("boot-1")
	return m
}

func (m *machine) put(path, text string) {
	m.t.Helper()
	at := filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) boot(id string) { m.put("proc/sys/kernel/random/boot_id", id+"\n") }

func (m *machine) dir() string { return filepath.Join(m.root, "data/health") }

// start starts the agent.
func (m *machine) start() (*Journal, []News) {
	m.t.Helper()
	j, news, err := Open(Options{Dir: m.dir(), Version: "v1", Root: m.root})
	if err != nil {
		m.t.Fatal(err)
	}
	return j, news
}

func one(t *testing.T, news []News) News {
	t.Helper()
	if len(news) != 1 {
		t.Fatalf("news: %+v", news)
	}
	return news[0]
}

func TestFirstStartAndOrderlyRestartsAreNoNews(t *testing.T) {
	m := newMachine(t)
	for range 3 {
		j, news := m.start()
		if len(news) != 0 {
			t.Errorf("news: %+v", news)
		}
		if err := j.Stopped(); err != nil {
			t.Fatal(err)
		}
	}
	j, _ := m.start()
	boots := j.Boots()
	if len(boots) != 1 || boots[0].Number != 1 || boots[0].Reason != First || len(boots[0].Runs) != 4 {
		t.Fatalf("boots: %+v", boots)
	}
	if r := boots[0].Runs; r[2].End != EndStopped || r[3].End != EndRunning || r[3].PID != os.Getpid() || r[3].Version != "v1" {
		t.Errorf("runs: %+v", r)
	}
}

// TestReasons starts a machine anew after each kind of end.
func TestReasons(t *testing.T) {
	fault := []health.Fault{{Component: "store", Reason: "store has given no sign of life for 2m0s"}}
	for _, c := range []struct {
		name    string
		before  func(m *machine, j *Journal) // in the boot before
		reason  Reason
		text    string
		warning bool
	}{
		{"power cut", func(*machine, *Journal) {}, Power, "its power failed, or its reset button was pressed", true},
		{"shutdown", func(_ *machine, j *Journal) { _ = j.Stopped() }, Shutdown, "shut down or restarted in order", false},
		{"update", func(_ *machine, j *Journal) { _ = j.Planned("update to v2, slot B"); _ = j.Stopped() }, Update, "update to v2, slot B", false},
		{"watchdog", func(m *machine, _ *Journal) { m.put("sys/class/watchdog/watchdog0/bootstatus", "32\n") }, Watchdog, "the watchdog reset it", true},
		{"wedged", func(_ *machine, j *Journal) { j.Wedged(fault) }, Watchdog, "because store has given no sign of life for 2m0s", true},
		{"wedged, and back", func(_ *machine, j *Journal) { j.Wedged(fault); j.Recovered() }, Power, "its power failed", true},
		{"low voltage", func(m *machine, _ *Journal) { m.put("sys/class/watchdog/watchdog0/bootstatus", "0x10\n") }, Power, "the voltage was too low", true},
		{"kernel panic", func(m *machine, _ *Journal) {
			m.put("sys/fs/pstore/dmesg-ramoops-0", "<6>[1.0] up\n<0>[9.1] Kernel panic - not syncing: Fatal exception\n")
		}, Panic, "Kernel panic - not syncing: Fatal exception", true},
		{"board", func(m *machine, _ *Journal) {
			m.put("sys/devices/platform/ahb/rstc/power_on_reason", "brown-out reset\n")
		}, Power, "the board says: power-on reason brown-out reset", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			j, _ := m.start()
			c.before(m, j)
			m.boot("boot-2")
			j, news := m.start()
			n := one(t, news)
			if !n.Boot || n.Reason != string(c.reason) || !strings.Contains(n.Text, c.text) || n.Warning != c.warning {
				t.Errorf("news: %+v", n)
			}
			boots := j.Boots()
			if len(boots) != 2 || boots[1].Number != 2 || boots[1].Reason != c.reason || boots[1].ID != "boot-2" {
				t.Errorf("boots: %+v", boots)
			}
			if _, again := m.start(); len(again) == 1 && again[0].Boot {
				t.Error("told twice")
			}
		})
	}
}

func TestPstoreIsEmptied(t *testing.T) {
	m := newMachine(t)
	m.start()
	for _, f := range []string{"dmesg-ramoops-0", "dmesg-ramoops-1", "console-ramoops-0"} {
		m.put("sys/fs/pstore/"+f, "Kernel panic - not syncing: "+strings.Repeat("x", 2*CrashBytes))
	}
	m.boot("boot-2")
	m.start()
	if left, _ := filepath.Glob(filepath.Join(m.root, "sys/fs/pstore/*")); len(left) != 1 {
		t.Errorf("left in pstore: %v", left)
	}
	kept := CrashFiles(m.dir())
	if len(kept) != 2 {
		t.Fatalf("kept %v", kept)
	}
	if info, err := os.Stat(filepath.Join(m.dir(), kept[0])); err != nil || info.Size() != CrashBytes {
		t.Errorf("%v, %v", info, err)
	}
}

func TestKilledAgent(t *testing.T) {
	m := newMachine(t)
	m.start()
	_, news := m.start()
	if n := one(t, news); n.Boot || n.Reason != EndKilled || !strings.Contains(n.Text, "the agent was killed and was started again (version v1, pid ") || !n.Warning {
		t.Errorf("news: %+v", n)
	}
}

func TestWedgedAgentThatWasRestarted(t *testing.T) {
	m := newMachine(t)
	j, _ := m.start()
	j.Wedged([]health.Fault{{Reason: "devices has given no sign of life for 4m0s"}})
	kmsg, err := os.ReadFile(filepath.Join(m.root, "dev/kmsg"))
	if err != nil || !strings.Contains(string(kmsg), "skerryd: the agent is wedged: devices has given") {
		t.Errorf("the console was told %q, %v", kmsg, err)
	}
	_, news := m.start()
	if n := one(t, news); n.Boot || n.Reason != EndWedged || !strings.Contains(n.Text, "devices has given no sign of life") {
		t.Errorf("news: %+v", n)
	}
	kept := CrashFiles(m.dir())
	if len(kept) != 1 || !strings.HasPrefix(kept[0], "wedged-") {
		t.Fatalf("kept %v", kept)
	}
	b, err := os.ReadFile(filepath.Join(m.dir(), kept[0]))
	if err != nil || !strings.Contains(string(b), "TestWedgedAgentThatWasRestarted") || len(b) > CrashBytes {
		t.Errorf("%d bytes of stacks, %v", len(b), err)
	}
}

// TestKilledForMemory has the kernel's words of mm/oom_kill.c.
func TestKilledForMemory(t *testing.T) {
	m := newMachine(t)
	m.put("dev/kmsg", "6,1,1,-;up\n3,2,2,-;Out of memory: Killed process 4711 (skerryd) total-vm:1kB, anon-rss:1kB\n")
	j, _ := m.start()
	if !j.killedForMemory(4711) || j.killedForMemory(471) || j.killedForMemory(1) {
		t.Error("the kernel's log is misread")
	}
}

func TestJournalIsBounded(t *testing.T) {
	m := newMachine(t)
	var before []Boot
	for i := range uint64(Boots) {
		before = append(before, Boot{Number: i + 1, ID: "old", Runs: make([]Run, Runs)})
	}
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	m.put("data/health/"+fileName, string(text))
	for i := range Crashes + 3 {
		m.put(fmt.Sprintf("data/health/agent-%d-1.txt", i), "old")
	}
	for range Runs + 2 {
		m.start()
	}
	j, _ := m.start()
	j.Wedged([]health.Fault{{Reason: strings.Repeat("r", 200)}})
	boots := j.Boots()
	if len(boots) != Boots || boots[0].Number != 2 || boots[Boots-1].Number != Boots+1 {
		t.Errorf("%d boots, from %d to %d", len(boots), boots[0].Number, boots[len(boots)-1].Number)
	}
	if n := len(boots[Boots-1].Runs); n != Runs {
		t.Errorf("%d runs", n)
	}
	if n := len(CrashFiles(m.dir())); n != Crashes {
		t.Errorf("%d crash files", n)
	}
}

func TestResetsInARow(t *testing.T) {
	m := newMachine(t)
	j, _ := m.start()
	if j.Resets() != 0 {
		t.Error("resets of a new gateway")
	}
	m.put("sys/class/watchdog/watchdog0/bootstatus", "32\n")
	for i, id := range []string{"b", "c", "d"} {
		m.boot(id)
		if j, _ = m.start(); j.Resets() != i+1 {
			t.Errorf("%d resets after %d", j.Resets(), i+1)
		}
	}
	m.put("sys/class/watchdog/watchdog0/bootstatus", "0\n")
	m.boot("e")
	if j, _ = m.start(); j.Resets() != 0 {
		t.Error("resets after a power cut")
	}
}

func TestDamagedJournalBeginsAnew(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.put("data/health/"+fileName, "[{\"number\": 3, \"id\":")
	j, news := m.start()
	if b := j.Boots(); len(b) != 1 || b[0].Number != 1 || len(news) != 0 {
		t.Errorf("boots %+v, news %+v", b, news)
	}
}

func TestFolderThatCannotBeMade(t *testing.T) {
	m := newMachine(t)
	m.put("data", "a file")
	j, _, err := Open(Options{Dir: m.dir(), Root: m.root})
	if err == nil || j == nil {
		t.Fatalf("%v, %v", j, err)
	}
	j.Wedged(nil) // in memory it goes on
	if err := errors.Join(j.Stopped(), nil); err != nil {
		t.Errorf("stopping without a journal: %v", err)
	}
}

// TestCrash has a process of its own die by a panic, and by a fatal error that no recover sees.
func TestCrash(t *testing.T) {
	if how := os.Getenv("SKERRY_JOURNAL_CRASH"); how != "" {
		crash(t, how)
		return
	}
	for how, want := range map[string]string{
		"panic": "panic: a driver's bug (in firmware/health/journal.crash",
		"fatal": "(in firmware/health/journal.deeper)",
		"abort": "SIGABRT: abort",
	} {
		t.Run(how, func(t *testing.T) {
			m := newMachine(t)
			cmd := processtest.Again(t, "-test.run=^TestCrash$")
			cmd.Env = append(os.Environ(), "SKERRY_JOURNAL_CRASH="+how, "SKERRY_JOURNAL_ROOT="+m.root)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("it did not die: %s", out)
			}
			_, news := m.start()
			if n := one(t, news); n.Reason != EndCrashed || !strings.Contains(n.Text, want) {
				t.Errorf("news: %+v\n%s", n, out)
			}
			if kept := CrashFiles(m.dir()); len(kept) != 1 {
				t.Errorf("kept %v", kept)
			}
			if left, err := os.Stat(filepath.Join(m.dir(), crashName)); err == nil {
				t.Errorf("%s is left with %d bytes", crashName, left.Size())
			}
		})
	}
}

func crash(t *testing.T, how string) {
	j, _, err := Open(Options{Dir: filepath.Join(os.Getenv("SKERRY_JOURNAL_ROOT"), "data/health"), Version: "v1", Root: os.Getenv("SKERRY_JOURNAL_ROOT")})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.CatchCrashes(); err != nil {
		t.Fatal(err)
	}
	switch how {
	case "panic":
		go func() {
			panic("a driver's bug")
		}()
	case "abort":
		p, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Signal(syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
	case "fatal":
		debug.SetMaxStack(1 << 20)
		_ = deeper(1)
	}
	time.Sleep(time.Minute)
}

func deeper(n int) int {
	if n < 0 {
		return 0
	}
	return deeper(n+1) + 1
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"number":1,"id":"a","began":"1970-01-01T00:00:00Z","reason":"first","runs":[{"pid":1,"end":"running"}]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		boots, err := parse(b)
		if err != nil {
			return
		}
		if len(boots) > Boots {
			t.Errorf("%d boots", len(boots))
		}
		for _, boot := range boots {
			if len(boot.Runs) > Runs {
				t.Errorf("%d runs", len(boot.Runs))
			}
		}
	})
}

// A disk on which nothing ends is the very thing that is to be recorded: who asks for the boots meanwhile gets them.
func TestDeadDiskKeepsNobodyFromReading(t *testing.T) {
	m := newMachine(t)
	j, _ := m.start()
	hangs := filepath.Join(m.dir(), fileName+durable.Suffix)
	if err := syscall.Mkfifo(hangs, 0o600); err != nil { // opening it for writing ends when somebody reads
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		j.Wedged([]health.Fault{{Reason: "store has given no sign of life"}})
		close(done)
	}()
	limit := time.Now().Add(time.Minute)
	for boots := j.Boots(); len(boots[0].Runs[0].Wedged) == 0; boots = j.Boots() {
		if time.Now().After(limit) {
			t.Fatal("that the agent is wedged is not known in memory")
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-done:
		t.Fatal("the disk does not hang: this test shows nothing")
	case <-time.After(20 * time.Millisecond):
	}
	if n := len(j.Boots()); n != 1 { // would hang, too
		t.Errorf("%d boots", n)
	}
	f, err := os.OpenFile(hangs, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
