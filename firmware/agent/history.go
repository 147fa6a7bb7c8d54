package agent

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/history"
)

// openHistory opens the history of device values. Devices are polled without one, too.
func (a *Agent) openHistory() {
	cfg := a.cfg.Devices.History
	if cfg.MaxBytes == 0 {
		a.noHistory = "devices.history.maxBytes is 0 on this gateway: set it in skerryd.yaml, for example to 64Mi, and restart the agent"
		return
	}
	h, err := history.Open(history.Options{
		Dir: filepath.Join(a.cfg.DataDir, "history"), Sealer: a.sealer, Epoch: a.store.Epoch(), Window: a.cfg.Store.Window,
		MaxBytes: int64(cfg.MaxBytes), DeviceBytes: int64(cfg.DeviceBytes), Log: a.log.With("part", "history"),
	})
	if err != nil {
		a.noHistory = fmt.Sprintf("the history in %s cannot be opened (%v): mend that and restart the agent", filepath.Join(a.cfg.DataDir, "history"), err)
		a.log.Error("the history of device values cannot be opened: devices are polled, and nothing is kept of their values until the agent is started again", "error", err)
		return
	}
	h.Limit(a.limits.HistoryQueue)
	a.history = h
}

func (a *Agent) closeHistory() {
	if a.history == nil {
		return
	}
	if err := a.history.Close(); err != nil {
		a.log.Error("closing the history of device values: the newest ones are lost", "error", err)
	}
}

// recorder of device values for the host: nil, and not a nil pointer in an interface, if there is none.
func (a *Agent) deviceHistory() devices.History {
	if a.history == nil {
		return nil
	}
	return a.history
}

// historyMeters adds the history's figures.
func (m *meters) historyMeters(h *history.History) {
	gauge := func(name string, read func(history.Stats) float64) {
		m.set.NewGauge(name, func() float64 { return read(h.Stats()) })
	}
	gauge("skerry_history_bytes", func(s history.Stats) float64 { return float64(s.Bytes) })
	gauge("skerry_history_values", func(s history.Stats) float64 { return float64(s.Values) })
	gauge("skerry_history_queued", func(s history.Stats) float64 { return float64(s.Queued) })
	gauge("skerry_history_writable", func(s history.Stats) float64 { return oneIf(s.Error == "") })
	gauge("skerry_history_written_bytes_total", func(s history.Stats) float64 { return float64(s.Written) })
	gauge("skerry_history_syncs_total", func(s history.Stats) float64 { return float64(s.Syncs) })
	gauge(`skerry_history_dropped_total{reason="queue"}`, func(s history.Stats) float64 { return float64(s.DroppedFull) })
	gauge(`skerry_history_dropped_total{reason="size"}`, func(s history.Stats) float64 { return float64(s.DroppedTooLarge) })
	gauge("skerry_history_overwritten_total", func(s history.Stats) float64 { return float64(s.Overwritten) })
	gauge("skerry_history_damaged_total", func(s history.Stats) float64 { return float64(s.Damaged) })
}

// writeTargets writes the figures of the history's targets, which come and go.
func writeTargets(w io.Writer, targets []history.TargetStats) {
	for _, t := range targets {
		fmt.Fprintf(w, "skerry_history_target_pending{target=%q} %d\n", t.Name, t.Pending)
		fmt.Fprintf(w, "skerry_history_target_lost_total{target=%q} %d\n", t.Name, t.Lost)
	}
}

// HistoryStatus says what is kept of device values, and what was not.
type HistoryStatus struct {
	Bytes       int64           `json:"bytes"`
	MaxBytes    int64           `json:"maxBytes"`
	Values      int64           `json:"values"`
	Devices     int             `json:"devices"`
	Dropped     uint64          `json:"dropped"`     // values that never reached the disk
	Overwritten uint64          `json:"overwritten"` // values that made room for newer ones
	Damaged     uint64          `json:"damaged"`     // places that were found damaged
	Error       string          `json:"error"`       // why values cannot be written now
	Targets     []HistoryTarget `json:"targets"`
}

// HistoryTarget is one consumer of the history.
type HistoryTarget struct {
	Name    string `json:"name"`
	Pending uint64 `json:"pending"` // values that it has not acknowledged
	Lost    uint64 `json:"lost"`    // values that it will never get
}

func (a *Agent) historyStatus() *HistoryStatus {
	if a.history == nil {
		return nil
	}
	s := a.history.Stats()
	out := &HistoryStatus{
		Bytes: s.Bytes, MaxBytes: s.MaxBytes, Values: s.Values, Devices: s.Devices, Dropped: s.DroppedFull + s.DroppedTooLarge,
		Overwritten: s.Overwritten, Damaged: s.Damaged, Error: s.Error,
	}
	for _, t := range s.Targets {
		out.Targets = append(out.Targets, HistoryTarget{t.Name, t.Pending, t.Lost})
	}
	return out
}

func (h *HistoryStatus) print(w io.Writer) {
	if h == nil {
		return
	}
	fmt.Fprintf(w, "history   %d values of %d devices in %.1f of %.1f MB, %d overwritten, %d dropped\n",
		h.Values, h.Devices, float64(h.Bytes)/1e6, float64(h.MaxBytes)/1e6, h.Overwritten, h.Dropped)
	if h.Error != "" {
		fmt.Fprintf(w, "          CANNOT WRITE: %s\n", h.Error)
	}
	if h.Damaged > 0 {
		fmt.Fprintf(w, "          damage was found in %d places; the values there are lost\n", h.Damaged)
	}
	for _, t := range h.Targets {
		fmt.Fprintf(w, "          target %s: %d values waiting, %d lost\n", t.Name, t.Pending, t.Lost)
	}
}
