package eviction

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	rules, err := Rules{
		Hard: map[string]string{"nodefs.available": "10%", "memory.available": "100Mi", "pid.available": "0"},
		Soft: map[string]string{"memory.available": "10%"}, Grace: map[string]time.Duration{"memory.available": time.Minute},
		Reclaim: map[string]string{"memory.available": "50Mi"},
	}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	want := []Threshold{
		{Signal: Memory, Least: Amount{Number: 100 << 20}, Reclaim: Amount{Number: 50 << 20}},
		{Signal: Memory, Least: Amount{Percent: 10}, Grace: time.Minute, Reclaim: Amount{Number: 50 << 20}},
		{Signal: NodeDisk, Least: Amount{Percent: 10}},
	}
	if len(rules) != len(want) {
		t.Fatalf("rules %+v", rules)
	}
	for i := range want {
		if rules[i] != want[i] {
			t.Errorf("rule %d: %+v", i, rules[i])
		}
	}
	if d, err := (Rules{Hard: DefaultHard()}).Parse(); err != nil || len(d) != 6 {
		t.Errorf("defaults: %v %v", d, err)
	}
	for _, c := range []struct {
		r    Rules
		want string
	}{
		{Rules{Hard: map[string]string{"disk": "1"}}, "hard.disk: there is no such signal"},
		{Rules{Hard: map[string]string{"memory.available": "lots"}}, "hard.memory.available"},
		{Rules{Hard: map[string]string{"memory.available": "101%"}}, "0% to 100%"},
		{Rules{Hard: map[string]string{"memory.available": "NaN%"}}, "0% to 100%"},
		{Rules{Hard: map[string]string{"memory.available": "-1"}}, "neither"},
		{Rules{Soft: map[string]string{"memory.available": "1"}}, "needs a softGracePeriod"},
		{Rules{Grace: map[string]time.Duration{"memory.available": 1}}, "no soft threshold"},
		{Rules{Hard: map[string]string{"memory.available": "1"}, Reclaim: map[string]string{"memory.available": "x"}}, "minimumReclaim.memory.available"},
	} {
		if _, err := c.r.Parse(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"10%", "100Mi", "5000", "", "%", "1e9", "0.5%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		if err == nil && (a.Number < 0 || !(a.Percent >= 0 && a.Percent <= 100)) {
			t.Errorf("%q: %+v", s, a)
		}
		if err == nil {
			if again, err := ParseAmount(a.String()); err != nil || again != a {
				t.Errorf("%q: written as %q, read as %+v: %v", s, a, again, err)
			}
		}
	})
}

// look is one observation of memory out of 1000.
func look(left int64) Observations { return Observations{Memory: {Available: left, Capacity: 1000}} }

func TestStep(t *testing.T) {
	hard := Threshold{Signal: Memory, Least: Amount{Percent: 5}, Reclaim: Amount{Percent: 2}}
	soft := Threshold{Signal: Memory, Least: Amount{Percent: 10}, Grace: time.Minute}
	s := State{Transition: 5 * time.Minute}
	at := time.Unix(1000, 0)
	for i, c := range []struct {
		after    time.Duration
		left     int64
		pressure bool
		act      *Threshold
	}{
		{0, 200, false, nil},
		{10 * time.Second, 90, true, nil},    // soft, its grace begins
		{30 * time.Second, 90, true, nil},    //
		{31 * time.Second, 90, true, &soft},  // its grace is over
		{10 * time.Second, 40, true, &soft},  // hard, seen once
		{time.Second, 40, true, &hard},       // and again
		{10 * time.Second, 60, true, &hard},  // above the threshold, but not reclaimed enough
		{10 * time.Second, 110, true, nil},   // enough
		{4 * time.Minute, 300, true, nil},    // the condition stays for a while
		{2 * time.Minute, 300, false, nil},   //
		{10 * time.Second, 90, true, nil},    // the soft grace begins anew
		{-time.Hour, 90, true, nil},          // the clock is set back: nothing is late
		{61 * time.Second, 90, true, &soft},  //
		{10 * time.Second, 1000, true, nil},  //
		{-time.Hour, 1000, false, nil},       // nor does the condition stay for an hour
		{10 * time.Second, 49, true, nil},    // one look is no reason
		{10 * time.Second, 1000, true, nil},  //
		{10 * time.Second, 49, true, nil},    //
		{time.Second, 49, true, &hard},       //
		{10 * time.Second, 50, true, &hard},  //
		{10 * time.Second, 70, true, nil},    // soft: in its grace
		{10 * time.Second, 1000, true, nil},  //
		{10 * time.Minute, 1000, false, nil}, //
	} {
		at = at.Add(c.after)
		d := s.Step([]Threshold{hard, soft}, look(c.left), at)
		if _, on := d.Pressure[MemoryPressure]; on != c.pressure {
			t.Errorf("step %d: pressure %v", i, d.Pressure)
		}
		var want []Threshold
		if c.act != nil {
			want = []Threshold{*c.act}
		}
		if !slices.Equal(d.Due, want) {
			t.Errorf("step %d: due %+v, want %+v", i, d.Due, want)
		}
	}
}

// TestStepHardBeforeSoft: whatever the order of the rules, the hard threshold of a signal counts once it is met.
func TestStepHardBeforeSoft(t *testing.T) {
	hard := Threshold{Signal: Memory, Least: Amount{Percent: 5}}
	soft := Threshold{Signal: Memory, Least: Amount{Percent: 10}, Grace: time.Second}
	for _, rules := range [][]Threshold{{hard, soft}, {soft, hard}} {
		var s State
		s.Step(rules, look(40), time.Unix(1, 0))
		if d := s.Step(rules, look(40), time.Unix(2, 0)); !slices.Equal(d.Due, []Threshold{hard}) {
			t.Errorf("due %+v", d.Due)
		}
	}
}

func TestStepUnmeasured(t *testing.T) {
	rules, err := Rules{Hard: DefaultHard()}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if d := s.Step(rules, Observations{NodeDisk: {}}, time.Unix(1, 0)); len(d.Pressure) != 0 || len(d.Due) != 0 {
		t.Errorf("decided %+v about nothing", d)
	}
	o := Observations{NodeInodes: {Available: 1, Capacity: 100}, Memory: {Available: 1, Capacity: 100}}
	s.Step(rules, o, time.Unix(1, 0))
	if d := s.Step(rules, o, time.Unix(2, 0)); len(d.Due) != 2 || d.Due[0].Signal != Memory || d.Due[1].Signal != NodeInodes || len(d.Pressure) != 2 {
		t.Errorf("decided %+v", d)
	}
	if o.Near(rules) != true || look(900).Near(rules) || !look(99).Near(rules) {
		t.Error("near is wrong")
	}
}

func ids(pods []Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.ID)
	}
	return strings.Join(out, " ")
}

func TestRank(t *testing.T) {
	pods := func() []Pod {
		return []Pod{
			{ID: "guaranteed", Measured: true, Memory: Usage{50, 100}, Disk: Usage{1, 0}, Processes: 9},
			{ID: "important", Measured: true, Priority: 1000, Memory: Usage{900, 100}, Disk: Usage{9, 0}, Processes: 90},
			{ID: "small", Measured: true, Memory: Usage{20, 0}, Disk: Usage{5, 0}, Processes: 1},
			{ID: "large", Measured: true, Memory: Usage{300, 200}, Disk: Usage{4, 9}, Processes: 2, Inodes: 7},
			{ID: "critical", Measured: true, Critical: true, Priority: CriticalPriority, Memory: Usage{9000, 0}, Disk: Usage{9000, 0}, Processes: 900},
			{ID: "unknown"},
		}
	}
	for signal, want := range map[Signal]string{
		Memory:     "unknown large small important guaranteed critical",
		NodeDisk:   "unknown small guaranteed important large critical",
		NodeInodes: "unknown large guaranteed small important critical",
		PIDs:       "unknown guaranteed large small important critical",
	} {
		p := pods()
		Rank(signal, p)
		if got := ids(p); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", signal, got, want)
		}
	}
}

func TestMessage(t *testing.T) {
	p := Pod{Containers: []Container{{Name: "a", Memory: Usage{12 << 20, 4 << 20}, Disk: Usage{1000, 0}}, {Name: "b", Memory: Usage{1, 2}}}}
	o := Observations{Memory: {Available: 3 << 20, Capacity: 100 << 20}, NodeInodes: {Available: 3, Capacity: 100}, NodeDisk: {Available: 1, Capacity: 10}}
	for _, c := range []struct {
		t    Threshold
		want string
	}{
		{Threshold{Signal: Memory, Least: Amount{Percent: 5}}, "The node was low on resource: memory. Threshold quantity: 5Mi, available: 3Mi. Container a was using 12Mi, request is 4Mi, has larger consumption of memory. "},
		{Threshold{Signal: NodeDisk, Least: Amount{Number: 2}}, "The node was low on resource: ephemeral-storage. Threshold quantity: 2, available: 1. Container a was using 1000, request is 0, has larger consumption of ephemeral-storage. "},
		{Threshold{Signal: NodeInodes, Least: Amount{Percent: 5}}, "The node was low on resource: inodes. Threshold quantity: 5, available: 3. "},
		{Threshold{Signal: PIDs, Least: Amount{Percent: 5}}, "The node was low on resource: pids. "},
	} {
		if got := Message(&c.t, o, &p); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
