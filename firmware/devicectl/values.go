package devicectl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/control"
)

func list(c *command) error {
	if err := c.parse(0, -1); err != nil {
		return err
	}
	var all []control.Device
	for _, arg := range c.args {
		d, err := c.find(arg)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	if len(c.args) == 0 {
		var err error
		if all, err = c.client.Devices(c.ctx); err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(d control.Device) bool { return c.namespace != "" && d.Namespace != c.namespace })
	}
	switch {
	case c.json:
		return c.print(all)
	case len(all) == 0:
		fmt.Fprintln(c.Stderr, "this gateway has no devices: apply a Device whose spec.nodeName is this gateway")
		return nil
	case len(c.args) > 0:
		for _, d := range all {
			c.describe(d)
		}
		return nil
	}
	rows := [][]string{{"DEVICE", "PROTOCOL", "STATE", "LAST ONLINE", "GOOD", "REASON", "MESSAGE"}}
	for _, d := range all {
		rows = append(rows, []string{d.Namespace + "/" + d.Name, orDash(d.Protocol), d.State, age(d.LastOnline), good(d), shown(d.Reason), printable(orDash(d.Message))})
	}
	return c.rows(rows)
}

func good(d control.Device) string {
	n := 0
	for _, p := range d.Properties {
		if p.Quality == "good" {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(d.Properties))
}

// describe shows a device with all that is wrong, a problem a line.
func (c *command) describe(d control.Device) {
	fmt.Fprintf(c.Stdout, "device %s/%s (%s): %s, last online %s, %s values good\n", d.Namespace, d.Name, orDash(d.Protocol), d.State, age(d.LastOnline), good(d))
	if d.Reason == "" {
		return
	}
	text := printable(d.Message)
	for _, begin := range []string{"spec.", "property ", "properties ", "DeviceModel "} { // problems are joined by semicolons, and have some of their own
		text = strings.ReplaceAll(text, "; "+begin, "\n    "+begin)
	}
	fmt.Fprintf(c.Stdout, "  %s:\n    %s\n", printable(d.Reason), text)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func read(c *command) error {
	if err := c.parse(1, -1); err != nil {
		return err
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	got, err := c.client.Read(c.ctx, d.Namespace, d.Name, c.args[1:])
	if err != nil {
		return err
	}
	bad := 0
	for _, p := range got {
		if p.Quality != "good" {
			bad++
		}
	}
	if c.json {
		if got == nil {
			got = []control.Property{}
		}
		err = c.print(got)
	} else {
		t := c.table()
		fmt.Fprintln(t, "PROPERTY\tVALUE\tUNIT\tQUALITY\tAGE\tREASON")
		for _, p := range got {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, shown(p.Value), orDash(printable(p.Unit)), p.Quality, age(p.At), printable(orDash(p.Reason)))
		}
		err = t.Flush()
	}
	if err == nil && bad > 0 {
		return &ExitError{exitNotWell, fmt.Sprintf("%d of %d values of device %s/%s are not good", bad, len(got), d.Namespace, d.Name)}
	}
	return err
}

// pairs takes NAME=VALUE arguments apart.
func pairs(args []string) ([][2]string, error) {
	var out [][2]string
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, wrongUsage("%q: NAME=VALUE is needed", a)
		}
		out = append(out, [2]string{name, value})
	}
	return out, nil
}

func write(c *command) error {
	if err := c.parse(2, -1); err != nil {
		return err
	}
	if len(c.args) == 3 && !strings.Contains(c.args[1], "=") { // write DEVICE PROPERTY VALUE is what many expect
		c.args = []string{c.args[0], c.args[1] + "=" + c.args[2]}
	}
	values, err := pairs(c.args[1:])
	if err != nil {
		return err
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	type outcome struct {
		Property string `json:"property"`
		Value    string `json:"value"`
		control.WriteAnswer
	}
	var all []outcome
	failed, pending := 0, 0
	for _, v := range values {
		o := outcome{Property: v[0], Value: v[1]}
		if o.WriteAnswer, err = c.client.Write(c.ctx, d.Namespace, d.Name, v[0], v[1]); err != nil {
			var e *control.Error
			if !errors.As(err, &e) { // the agent is gone
				return err
			}
			o.Outcome, o.Reason = "failed", e.Text
		}
		switch o.Outcome {
		case "failed":
			failed++
		case "pending":
			pending++
		}
		all = append(all, o)
	}
	if c.json {
		err = c.print(all)
	} else {
		t := c.table()
		fmt.Fprintln(t, "PROPERTY\tWRITTEN\tOUTCOME\tREAD BACK\tREASON")
		for _, o := range all {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", o.Property, shown(o.Value), o.Outcome, shown(o.Readback.Value), printable(orDash(o.Reason)))
		}
		err = t.Flush()
	}
	if err == nil && pending > 0 && failed == 0 {
		return &ExitError{exitNotWell, fmt.Sprintf("%d of %d writes to device %s/%s wait for the device", pending, len(all), d.Namespace, d.Name)}
	}
	if err == nil && failed > 0 {
		return &ExitError{exitFailed, fmt.Sprintf("%d of %d writes to device %s/%s failed", failed, len(all), d.Namespace, d.Name)}
	}
	return err
}

func call(c *command) error {
	if err := c.parse(2, -1); err != nil {
		return err
	}
	values, err := pairs(c.args[2:])
	if err != nil {
		return err
	}
	arguments := map[string]string{}
	for _, v := range values {
		arguments[v[0]] = v[1]
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	got, err := c.client.Call(c.ctx, d.Namespace, d.Name, c.args[1], arguments)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(got)
	}
	if len(got) == 0 {
		fmt.Fprintln(c.Stdout, "called; the method returned nothing")
		return nil
	}
	t := c.table()
	fmt.Fprintln(t, "RESULT\tVALUE")
	for _, k := range sortedKeys(got) {
		fmt.Fprintf(t, "%s\t%s\n", printable(k), printable(orDash(got[k])))
	}
	return t.Flush()
}

// watch goes on until it is interrupted; the agent's limit for one stream is no reason to stop.
func watch(c *command) error {
	count := c.flags.Int("count", 0, "stop after so many changes; 0: never")
	quiet := c.flags.Bool("changes", false, "do not begin with the values that are known")
	if err := c.parse(0, -1); err != nil {
		return err
	}
	var names []string
	var properties []string
	if len(c.args) > 0 {
		d, err := c.find(c.args[0])
		if err != nil {
			return err
		}
		names, properties = []string{d.Namespace + "/" + d.Name}, c.args[1:]
	}
	seen := 0
	show := func(ch control.Change) error {
		switch {
		case ch.End != "":
			return nil
		case ch.Missed > 0:
			fmt.Fprintf(c.Stderr, "%d changes were missed: they came faster than they could be shown\n", ch.Missed)
			return nil
		case ch.Initial && *quiet:
			return nil
		}
		if err := c.showChange(ch); err != nil {
			return err
		}
		if ch.Initial {
			return nil
		}
		if seen++; *count > 0 && seen >= *count {
			return errEnough
		}
		return nil
	}
	for {
		err := c.client.Watch(c.ctx, names, properties, show)
		switch {
		case errors.Is(err, errEnough), c.ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		*quiet = true // the stream's time was over: go on where it ended
	}
}

var errEnough = errors.New("enough")

func (c *command) showChange(ch control.Change) error {
	if c.json {
		return c.line(ch)
	}
	at := "--:--:--.---"
	if !ch.At.IsZero() {
		at = ch.At.Local().Format("15:04:05.000")
	}
	text := fmt.Sprintf("%s  %s/%s  %s = %s", at, ch.Namespace, ch.Device, ch.Name, shown(ch.Value))
	if ch.Unit != "" {
		text += " " + printable(ch.Unit)
	}
	if ch.Quality != "good" {
		text += "  (" + ch.Quality + ": " + printable(orDash(ch.Reason)) + ")"
	}
	if !ch.Source.IsZero() && !ch.Source.Equal(ch.At) {
		text += "  measured " + ch.Source.Local().Format(time.RFC3339)
	}
	_, err := fmt.Fprintln(c.Stdout, text)
	return err
}
