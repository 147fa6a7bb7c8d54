package devicectl

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/control"
)

// history shows what was kept of a device's values.
func history(c *command) error {
	var req control.HistoryRequest
	since := c.flags.Duration("since", 0, "only values that are not `older`, as 10m or 48h")
	from := c.flags.String("from", "", "only values from this `time` on, as 2026-05-31T08:00:00Z")
	to := c.flags.String("to", "", "only values up to this `time`")
	c.flags.IntVar(&req.Limit, "limit", 1000, "the newest so `many`")
	if err := c.parse(1, 2); err != nil {
		return err
	}
	if *since < 0 || *since > 0 && *from != "" {
		return wrongUsage("give either --since, as 10m, or --from")
	}
	if *since > 0 {
		req.From = time.Now().Add(-*since)
	}
	for into, text := range map[*time.Time]string{&req.From: *from, &req.To: *to} {
		if text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return wrongUsage("time %q: allowed is the form 2026-05-31T08:00:00Z or 2026-05-31T10:00:00+02:00", text)
		}
		*into = t
	}
	if len(c.args) == 2 {
		req.Property = c.args[1]
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	count := 0
	if err := c.client.History(c.ctx, d.Namespace, d.Name, req, func(ch control.Change) error {
		count++
		if c.json {
			return c.line(ch)
		}
		return c.showKept(ch)
	}); err != nil {
		return err
	}
	if !c.json {
		if err := c.showLosses(d); err != nil {
			return err
		}
	}
	if count == 0 {
		return &ExitError{exitNotWell, fmt.Sprintf("nothing was kept of device %s/%s in that time: changes of a property are kept if its visitor says history: true", d.Namespace, d.Name)}
	}
	return nil
}

// showLosses says on the error output what is kept of a device and what is not: a trend with holes that nobody knows of is worse than none.
func (c *command) showLosses(d control.Device) error {
	s, err := c.client.HistoryStats(c.ctx, d.Namespace, d.Name)
	if err != nil {
		var e *control.Error
		if errors.As(err, &e) && e.Code == control.CodeNotFound { // an older agent
			return nil
		}
		return err
	}
	lines := []string{fmt.Sprintf("kept of %s/%s: %d values in %.1f kB", d.Namespace, d.Name, s.Values, float64(s.Bytes)/1e3)}
	if s.Overwritten > 0 {
		lines = append(lines, fmt.Sprintf("%d older ones made room for newer ones since the agent started: raise devices.history.maxBytes or deviceBytes to keep more", s.Overwritten))
	}
	if s.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("%d were dropped since the agent started, because the disk did not take them in time: look at `skerryd status`", s.Dropped))
	}
	if s.TooLarge > 0 {
		lines = append(lines, fmt.Sprintf("%d were dropped since the agent started, because they are longer than 16 KiB", s.TooLarge))
	}
	if s.Error != "" {
		lines = append(lines, "nothing can be written now: "+printable(s.Error))
	}
	for _, t := range s.Targets {
		lines = append(lines, fmt.Sprintf("target %s (all devices): %d values wait for it, %d are lost for it", printable(t.Name), t.Pending, t.Lost))
	}
	_, err = fmt.Fprintln(c.Stderr, strings.Join(lines, "\n  "))
	return err
}

func (c *command) showKept(ch control.Change) error {
	text := fmt.Sprintf("%s  %s = %s", ch.At.Local().Format("2006-01-02 15:04:05.000"), ch.Name, shown(ch.Value))
	if ch.Unit != "" {
		text += " " + printable(ch.Unit)
	}
	if ch.Quality != "good" {
		text += "  (" + ch.Quality + ": " + printable(orDash(ch.Reason)) + ")"
	}
	_, err := fmt.Fprintln(c.Stdout, text)
	return err
}
