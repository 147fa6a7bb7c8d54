package devicetest

import (
	"sync"
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// testChange: the manifest of a device changes while it runs. The host compiles all of its properties anew and goes on with the session: the driver
// has to show which of them are still the same, to serve those of the new manifest beside readings that the old one has begun, and
// must neither connect anew nor write anything.
func testChange(t *testing.T, s Subject) {
	session := Open(t, s.Driver, s.Config)
	all := append(append([]device.PointConfig(nil), s.Read...), s.Write)
	old := Compile(t, s.Driver, all...)
	target := len(old) - 1
	res := session.Write(t.Context(), []device.Write{{Point: old[target], Value: s.Values[0]}})
	if res[0].Err != nil {
		t.Fatalf("Write: %v", res[0].Err)
	}
	if err := readAll(t.Context(), session, old); err != nil {
		t.Fatalf("Read: %v", err)
	}
	seen := s.Traffic
	if seen == nil {
		seen = func() (int, int) { return 0, 0 }
	}
	connections, writes := seen()
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 5 {
		if err := s.Driver.Check(s.Config); err != nil {
			t.Fatalf("Check of the configuration in use: %v", err)
		}
		next := Compile(t, s.Driver, all...)
		for i := range next {
			if next[i].String() != old[i].String() {
				t.Fatalf("%s: compiled anew it is %q, and was %q: the host would take it for another", all[i].Property, next[i], old[i])
			}
		}
		before := old
		wg.Go(func() {
			if err := readAll(t.Context(), session, before); err != nil {
				t.Errorf("Read of the old manifest's properties: %v", err)
			}
		})
		for _, batch := range [][]device.Point{next, next[1:], next[:target], next} { // a property goes, another does, both come back
			if err := readAll(t.Context(), session, batch); err != nil {
				t.Errorf("Read of %d of %d properties: %v", len(batch), len(next), err)
			}
		}
		old = next
	}
	wg.Wait()
	if c, w := seen(); c != connections || w != writes {
		t.Errorf("changes of the manifest cost %d connections and %d writes", c-connections, w-writes)
	}
	value := make([]device.Value, 1)
	if err := session.Read(t.Context(), old[target:], value); err != nil || value[0].Text() != s.Values[0].Text() {
		t.Errorf("%s was written, and the device shows %s: %v", s.Values[0].Text(), value[0].Text(), err)
	}
}
