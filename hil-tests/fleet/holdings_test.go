package fleet

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
)

// TestHoldingsAgreeWithTheModel applies the same commits to the store of bodies that the link's own tests use.
func TestHoldingsAgreeWithTheModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h holdings
	model := linktest.NewStore()
	revision := uint64(100)
	var keys []wire.Key
	for i := range 12 {
		keys = append(keys, wire.NewKey(wire.KindConfigMap, "default", "c"+strconv.Itoa(i), ""))
	}
	for id := range uint64(300) {
		revision += 1 + r.Uint64N(3)
		c := wire.Commit{ID: id + 1, Rules: 3, Revisions: map[wire.Kind]uint64{wire.KindConfigMap: revision}}
		k := keys[r.IntN(len(keys))]
		if _, held := h.versions()[k]; held && r.IntN(3) == 0 {
			c.Delete = []wire.Key{k}
		} else {
			body := linktest.Body(int(id))
			c.Put = []wire.Object{{Key: k, Version: wire.BodyVersion("u", body), Revision: revision, Body: body}}
		}
		if err := h.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if err := model.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.Equal(h.versions(), model.Versions()) || h.Digest() != model.Digest() || !maps.Equal(h.Revisions(), model.Revisions()) {
		t.Error("the holdings differ from the model")
	}
	for i := range wire.DigestBuckets {
		if len(h.Bucket(i)) != len(model.Bucket(i)) {
			t.Errorf("bucket %d holds %d entries, want %d", i, len(h.Bucket(i)), len(model.Bucket(i)))
		}
	}
	puts, deletes := model.Counts()
	if h.tally != (Tally{Commits: 300, Puts: int64(puts), Deletes: int64(deletes)}) {
		t.Errorf("tally %+v, the model has %d puts and %d deletions", h.tally, puts, deletes)
	}
}

func TestHoldingsNoticeWhatIsWrong(t *testing.T) {
	var h holdings
	key := wire.NewKey(wire.KindConfigMap, "default", "c", "")
	object := func(n int, revision uint64) wire.Object {
		b := linktest.Body(n)
		return wire.Object{Key: key, Version: wire.BodyVersion("u", b), Revision: revision, Body: b}
	}
	revs := func(n uint64) map[wire.Kind]uint64 { return map[wire.Kind]uint64{wire.KindConfigMap: n} }
	other := wire.NewKey(wire.KindConfigMap, "default", "other", "")
	for i, c := range []wire.Commit{
		{Put: []wire.Object{object(1, 10)}, Revisions: revs(10)},
		{Put: []wire.Object{object(1, 11)}, Revisions: revs(11)}, // repeated
		{Put: []wire.Object{object(2, 9)}, Revisions: revs(11)},  // back in time
		{Delete: []wire.Key{other}, Revisions: revs(12)},         // not held
		{Put: []wire.Object{object(3, 20)}, Revisions: revs(20)},
		{Delete: []wire.Key{key}, Revisions: revs(19)}, // on the word of an older cache
	} {
		c.ID = uint64(i + 1)
		if err := h.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if h.tally.Repeated != 1 || h.tally.Breaches != 3 {
		t.Errorf("tally %+v, want 1 repeated and 3 breaches", h.tally)
	}
}

func TestCounters(t *testing.T) {
	page := `# HELP x
skerry_relay_api_requests_total{verb="list",resource="pods",code="200"} 3
skerry_relay_api_requests_total{verb="patch",resource="leases",code="200"} 40
skerry_relay_api_requests_total{verb="patch",resource="leases",code="409"} 2
skerry_relay_api_requests_total_other 7
apiserver_request_total{code="200",component="apiserver",resource="pods",subresource="status",verb="PATCH"} 5
process_cpu_seconds_total 1.5
broken
`
	c := ParseCounters([]byte(page))
	if got := c.Sum("skerry_relay_api_requests_total", `verb="patch"`); got != 42 {
		t.Errorf("patches: %v, want 42", got)
	}
	if got := c.Sum("skerry_relay_api_requests_total"); got != 45 {
		t.Errorf("requests: %v, want 45", got)
	}
	if got := c["process_cpu_seconds_total"]; got != 1.5 {
		t.Errorf("processor time: %v", got)
	}
	if got := c.RelayRequests(); len(got) != 2 || got[0] != (Requests{"patch", "leases", 42}) {
		t.Errorf("the relay's requests: %v", got)
	}
	if got := c.ServerRequests(); len(got) != 1 || got[0] != (Requests{"patch", "pods/status", 5}) {
		t.Errorf("the API server's requests: %v", got)
	}
	later := ParseCounters([]byte("process_cpu_seconds_total 4\n"))
	if got := later.Sub(c)["process_cpu_seconds_total"]; got != 2.5 {
		t.Errorf("difference: %v", got)
	}
}

func TestDocumentsAreSmall(t *testing.T) {
	for name, b := range map[string][]byte{"node": nodeReport(), "pod": podReport(false), "device": deviceReport(3)} {
		if len(b) < 200 || len(b) > 2000 {
			t.Errorf("the report of a %s has %d bytes", name, len(b))
		}
		t.Logf("the report of a %s has %d bytes", name, len(b))
	}
}
