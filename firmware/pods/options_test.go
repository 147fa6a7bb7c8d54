package pods

import (
	"testing"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/store"
)

// What the agent's wiring passes must fit.
var (
	_ Runtime = (*cri.Client)(nil)
	_ Desired = (*store.Desired)(nil)
	_ Watch   = (*store.Watch)(nil)
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Fatal("accepted no options")
	}
}
