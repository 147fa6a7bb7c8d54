package update

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Annotations of the Node and of pods.
const (
	// AnnotationOrder is what somebody wants of a node: an Order as JSON. `skerryctl node update` writes it.
	AnnotationOrder = wire.AnnotationUpdate
	// AnnotationStatus is what the agent says of updates: a Status as JSON.
	AnnotationStatus = wire.AnnotationUpdateStatus
	// AnnotationHold on a pod, with the value true, has a restart wait for the end of the pod, at most for update.drainTimeout.
	AnnotationHold = "node.skerry.dev/hold-update"
	// Condition of the Node: True while an update is under way.
	Condition = "SkerryUpdate"
)

const maxOrder = 4 << 10

// ParseOrder reads the annotation. An order without an id gets one that follows from its text: another text is another order.
func ParseOrder(text string) (Order, error) {
	var o Order
	if len(text) > maxOrder {
		return o, fmt.Errorf("an order of %d bytes: at most %d are allowed", len(text), maxOrder)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return Order{}, fmt.Errorf("not an order in JSON: %w", err)
	}
	if !strings.HasPrefix(o.Bundle, "https://") {
		return Order{}, errors.New("bundle: an address that begins with https:// is needed")
	}
	if o.ID == "" {
		sum := sha256.Sum256([]byte(text))
		o.ID = hex.EncodeToString(sum[:8])
	}
	if len(o.ID) > 64 || len(o.Version) > 64 {
		return Order{}, errors.New("id and version have at most 64 bytes")
	}
	return o, nil
}

// Window is when the machine may be restarted: a time of the day, from From to To, across midnight if To is before From.
type Window struct{ From, To time.Duration }

// ParseWindow reads HH:MM-HH:MM. Empty: always.
func ParseWindow(text string) (*Window, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no window is a valid one
	}
	a, b, ok := strings.Cut(text, "-")
	from, err1 := time.Parse("15:04", strings.TrimSpace(a))
	to, err2 := time.Parse("15:04", strings.TrimSpace(b))
	if !ok || err1 != nil || err2 != nil || from.Equal(to) {
		return nil, errors.New("HH:MM-HH:MM is needed, as 02:00-04:30")
	}
	of := func(t time.Time) time.Duration {
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return &Window{of(from), of(to)}, nil
}

// firstYear is before any in which this program runs: a clock that says so has not been set since the power came.
const firstYear = 2025

// Open says whether now is in the window, by the local time of now. A clock that has not been set opens no window.
func (w *Window) Open(now time.Time) bool {
	if w == nil {
		return true
	}
	if now.Year() < firstYear {
		return false
	}
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	if w.From < w.To {
		return at >= w.From && at < w.To
	}
	return at >= w.From || at < w.To
}
