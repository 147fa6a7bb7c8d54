package overview

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// Print writes the overview for a terminal: what needs an operator, one line of counts, and tables.
func (o *Overview) Print(w io.Writer, now time.Time) error {
	for _, text := range o.Warnings {
		fmt.Fprintf(w, "WARNING: %s\n\n", text)
	}
	fmt.Fprintf(w, "%s\n", o.Summary)
	if o.problems {
		return o.printProblems(w, now)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	if len(o.Relays) == 0 {
		fmt.Fprintln(t, "No relay runs, and none has held a node's session.")
	} else {
		o.relays(t, now)
	}
	fmt.Fprintln(t)
	if len(o.Nodes) == 0 {
		fmt.Fprintln(t, "No node has joined. Start with: skerryctl token create --node NAME")
	} else {
		o.nodes(t, now)
	}
	fmt.Fprintln(t)
	if len(o.Devices) == 0 {
		fmt.Fprintln(t, "No devices.")
	} else {
		o.devices(t, now)
	}
	return t.Flush()
}

// printProblems leaves out tables that would be empty.
func (o *Overview) printProblems(w io.Writer, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, table := range []struct {
		rows  int
		print func(io.Writer, time.Time)
	}{{len(o.Relays), o.relays}, {len(o.Nodes), o.nodes}, {len(o.Devices), o.devices}} {
		if table.rows > 0 {
			fmt.Fprintln(t)
			table.print(t, now)
		}
	}
	return t.Flush()
}

func (o *Overview) relays(t io.Writer, now time.Time) {
	fmt.Fprintln(t, "RELAY\tSTATE\tADDRESS\tAGENTS\tNODES CONNECTED\tUP FOR\tLAST RENEWAL")
	for _, r := range o.Relays {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Name, r.state(), cmp.Or(r.Address, "-"), r.count(), r.Connected, r.up(now), age(r.Renewed, now))
	}
}

func (o *Overview) nodes(t io.Writer, now time.Time) {
	fmt.Fprintln(t, "NODE\tCONNECTED\tREADY\tLAST SEEN\tRELAY\tAGENT\tPODS RUNNING")
	for _, n := range o.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d/%d\n", n.Name, yes(n.Connected), ready(n), age(n.LastSeen, now), cmp.Or(n.Relay, "-"), cmp.Or(n.Version, "-"), n.Running, n.Pods)
	}
}

func (o *Overview) devices(t io.Writer, now time.Time) {
	fmt.Fprintln(t, "DEVICE\tNODE\tREADY\tREASON\tSTATE\tLAST VALUE\tVALUES")
	for _, d := range o.Devices {
		fmt.Fprintf(t, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Namespace, d.Name, cmp.Or(d.Node, "-"), d.Ready, cmp.Or(d.Reason, "-"), cmp.Or(d.State, "-"), age(d.LastValue, now), cmp.Or(d.Values, "-"))
	}
}

func (r Relay) state() string {
	switch {
	case r.Alive && r.Draining:
		return "draining"
	case r.Alive:
		return "running"
	}
	return "gone"
}

// count is of a relay that runs: what one that is gone had is no longer there.
func (r Relay) count() string {
	if !r.Alive {
		return "-"
	}
	return strconv.Itoa(r.Agents)
}

func (r Relay) up(now time.Time) string {
	if !r.Alive || r.Started.IsZero() {
		return "-"
	}
	return age(r.Started, now)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func ready(n Node) string {
	if n.Ready || n.Reason == "" {
		return yes(n.Ready)
	}
	return "no (" + n.Reason + ")"
}

// age renders how long ago t was; a gateway's clock that is ahead reads as a negative age rather than being hidden.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d.Abs() < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d.Abs() < 10*time.Minute:
		return d.Round(time.Second).String()
	case d.Abs() < 48*time.Hour:
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%dd", int64(d/(24*time.Hour)))
}
