package twin

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var t0 = time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC) // a gateway that woke up in 1970

func TestWhoWins(t *testing.T) {
	cloud := func(g int64, v string) Desired { return Desired{Origin: Cloud, Generation: g, Value: v} }
	edge := func(g int64, seq uint64, v string) Desired {
		return Desired{Origin: Edge, Generation: g, Seq: seq, Value: v}
	}
	for name, c := range map[string]struct{ win, lose Desired }{
		"higher cloud generation":                    {cloud(3, "a"), cloud(2, "b")},
		"edge write that saw the cloud's generation": {edge(3, 1, "a"), cloud(3, "b")},
		"cloud value newer than what the edge saw":   {cloud(4, "a"), edge(3, 9, "b")},
		"later edge write":                           {edge(3, 2, "a"), edge(3, 1, "b")},
		"edge write that saw more":                   {edge(4, 1, "a"), edge(3, 7, "b")},
		"anything over nothing":                      {cloud(1, "a"), Desired{}},
		"clearing in the cloud":                      {cloud(5, ""), edge(4, 1, "b")},
	} {
		if got := Merge(c.win, c.lose); got != c.win {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := Merge(c.lose, c.win); got != c.win {
			t.Errorf("%s, the other way round: got %+v", name, got)
		}
	}
}

func random(r *rand.Rand) Desired {
	return Desired{Origin: Origin(r.IntN(3)), Generation: r.Int64N(3), Seq: r.Uint64N(3), Value: string(rune('a' + r.IntN(3)))}
}

func TestMergeIsASemilattice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		a, b, c := random(r), random(r), random(r)
		if Merge(a, b) != Merge(b, a) {
			t.Fatalf("not commutative: %+v %+v", a, b)
		}
		if Merge(a, a) != a {
			t.Fatalf("not idempotent: %+v", a)
		}
		if Merge(Merge(a, b), c) != Merge(a, Merge(b, c)) {
			t.Fatalf("not associative: %+v %+v %+v", a, b, c)
		}
	}
}

// TestOrderOfArrivalDoesNotMatter shuffles the same writes, lets some arrive twice, and expects the same winner; and the
// value that counts never goes back to an older version on the way.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		// Versions are unique, as in life: one value for a cloud generation, one for an edge sequence number.
		var writes []Desired
		for g := int64(1); g < 5; g++ {
			writes = append(writes, Desired{Origin: Cloud, Generation: g, Value: "c" + string(rune('0'+g))})
		}
		for s := uint64(1); s < 5; s++ {
			writes = append(writes, Desired{Origin: Edge, Generation: r.Int64N(5), Seq: s, Value: "e" + string(rune('0'+s))})
		}
		want := Desired{}
		for _, w := range writes {
			want = Merge(want, w)
		}
		writes = append(writes, writes[r.IntN(len(writes))])
		r.Shuffle(len(writes), func(i, j int) { writes[i], writes[j] = writes[j], writes[i] })
		var p Property
		for _, w := range writes {
			before := p.Desired()
			if w.Origin == Cloud {
				p.SetCloud(w.Value, w.Generation)
			} else {
				p.SetEdge(w.Value, w.Generation, w.Seq)
			}
			if p.Desired().Compare(before) < 0 {
				t.Fatalf("a stale write won: %+v over %+v", p.Desired(), before)
			}
		}
		if p.Desired() != want {
			t.Fatalf("got %+v, want %+v after %+v", p.Desired(), want, writes)
		}
	}
}

func TestUnchangedValueKeepsItsGeneration(t *testing.T) {
	var p Property
	p.SetCloud("1", 2)
	p.Record(p.Desired(), Verified, "", t0)
	if p.SetCloud("1", 3) {
		t.Error("a new generation with the same value counted as a change")
	}
	if p.Unsettled() || p.Desired().Generation != 2 {
		t.Errorf("the unchanged value would be written again: %+v", p)
	}
	// An edge write stands against later generations that change something else …
	if !p.SetEdge("7", 3, 1) || p.Desired().Value != "7" || !p.Unsettled() {
		t.Errorf("edge write did not stand: %+v", p)
	}
	p.SetCloud("1", 4)
	if p.Desired().Value != "7" {
		t.Errorf("a change of something else overrode the edge write: %+v", p)
	}
	// … and not against one that changes the value.
	p.SetCloud("2", 5)
	if p.Desired().Value != "2" {
		t.Errorf("cloud value did not win: %+v", p)
	}
	if p.SetEdge("8", 4, 2) || p.Desired().Value != "2" {
		t.Errorf("a stale edge write won: %+v", p)
	}
	if p.SetCloud("9", 4) {
		t.Error("an older generation was taken")
	}
}

func TestRestoredClusterCountsAgain(t *testing.T) {
	var p Property
	p.SetCloud("1", 40)
	p.SetEdge("2", 41, 1)
	if p.Rewind(41) || p.Desired().Value != "2" {
		t.Errorf("something was dropped that is not newer: %+v", p)
	}
	if !p.Rewind(12) || p.Wanted() {
		t.Errorf("values of a future that never was are kept: %+v", p)
	}
	p.SetCloud("3", 12)
	if p.Desired().Value != "3" || !p.Unsettled() {
		t.Errorf("the restored cluster's value does not count: %+v", p)
	}
}

func TestNothingWanted(t *testing.T) {
	var p Property
	if p.SetCloud("", 1) || p.Wanted() || p.Unsettled() || p.Due(t0, time.Second, time.Minute) {
		t.Errorf("an empty value is wanted: %+v", p)
	}
	p.SetCloud("1", 2)
	p.SetCloud("", 3)
	if p.Wanted() || p.Unsettled() {
		t.Errorf("a cleared value is wanted: %+v", p)
	}
}

func TestRetries(t *testing.T) {
	var p Property
	p.SetCloud("1", 1)
	due := func(after time.Duration) bool { return p.Due(t0.Add(after), time.Second, 4*time.Second) }
	if !due(0) {
		t.Error("a new value is not due")
	}
	p.Record(p.Desired(), Failed, "illegal data address", t0)
	if due(999*time.Millisecond) || !due(time.Second) {
		t.Error("first retry is not after 1 s")
	}
	p.Record(p.Desired(), Failed, "x", t0)
	p.Record(p.Desired(), Failed, "x", t0)
	p.Record(p.Desired(), Failed, "x", t0)
	if due(3999*time.Millisecond) || !due(4*time.Second) {
		t.Error("the back-off is not bounded by its limit")
	}
	if !p.Due(t0.Add(-time.Hour), time.Second, time.Minute) {
		t.Error("a clock that was set back blocks the retry")
	}
	p.SetCloud("2", 2)
	if !due(0) {
		t.Error("a new value waits for the old one's back-off")
	}
	p.Record(p.Desired(), Refused, "out of range", t0)
	if due(time.Hour) || p.Unsettled() {
		t.Error("a refused value is tried again")
	}
	if o, reason := p.Outcome(); o != Refused || reason != "out of range" {
		t.Errorf("outcome %v %q", o, reason)
	}
}

func TestLateOutcomeOfAnOldValue(t *testing.T) {
	var p Property
	p.SetCloud("1", 1)
	old := p.Desired()
	p.SetCloud("2", 2)
	p.Record(old, Verified, "", t0)
	if o, _ := p.Outcome(); o != Pending || !p.Due(t0, time.Second, time.Minute) {
		t.Errorf("the outcome of the old value settled the new one: %v", o)
	}
}

func TestRecordSurvivesEncoding(t *testing.T) {
	var p Property
	p.SetCloud("1", 1)
	p.SetEdge("2", 1, 9)
	p.Record(p.Desired(), Failed, "why", t0)
	body, err := p.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back Property
	if _, err := back.UnmarshalMsg(body); err != nil {
		t.Fatal(err)
	}
	if !back.Last.At.Equal(p.Last.At) {
		t.Errorf("time %v", back.Last.At)
	}
	back.Last.At = p.Last.At
	if !reflect.DeepEqual(back, p) {
		t.Errorf("got %+v, want %+v", back, p)
	}
}

func TestWords(t *testing.T) {
	if Verified.String() != "verified" || Refused.String() != "refused" || Outcome(200).String() != "refused" || Edge.String() != "edge" {
		t.Error("words of outcomes or origins changed: they are in Kubernetes statuses")
	}
}
