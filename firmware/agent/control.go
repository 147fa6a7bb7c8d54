package agent

import (
	"context"
	"time"

	"github.com/skerry/skerry/firmware/control"
)

// serveControl serves `skerryctl device`.
func (a *Agent) serveControl(ctx context.Context) error {
	o := control.Options{Socket: a.cfg.Control.Socket, Devices: a.devices, Explorer: a.devices, Drivers: a.drivers, Log: a.log.With("part", "control")}
	if a.history != nil {
		o.History, o.HistoryStats = a.kept, a.keptStats
	}
	return control.New(o).Run(ctx)
}

func (a *Agent) kept(namespace, name, property string, from, to time.Time, limit int) ([]control.Kept, error) {
	got, err := a.history.Range(namespace, name, property, from, to, limit)
	out := make([]control.Kept, len(got))
	for i, e := range got {
		out[i] = control.Kept{Property: e.Property, Value: e.Value}
	}
	return out, err
}

func (a *Agent) keptStats(namespace, name string) control.HistoryStats {
	d, all := a.history.Device(namespace, name), a.history.Stats()
	out := control.HistoryStats{Values: d.Values, Bytes: d.Bytes, Overwritten: d.Overwritten, Dropped: d.DroppedFull, TooLarge: d.DroppedTooLarge, Error: all.Error}
	for _, t := range all.Targets {
		out.Targets = append(out.Targets, control.HistoryTarget{Name: t.Name, Pending: t.Pending, Lost: t.Lost})
	}
	return out
}
