package devicectl

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/devices"
)

func plan(c *command) error {
	var files texts
	c.flags.Var(&files, "f", "`file` with Devices and their DeviceModels that need not be applied; - is standard input; may be repeated")
	brief := c.flags.Bool("brief", false, "only the sums, not each request")
	if err := c.parse(0, 1); err != nil {
		return err
	}
	if (len(files) == 0) == (len(c.args) == 0) {
		return wrongUsage("give either a device or -f FILE")
	}
	if len(files) > 0 {
		return planFiles(c, files, *brief)
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	line, err := c.client.Plan(c.ctx, d.Namespace, d.Name)
	if err != nil {
		return err
	}
	if c.json {
		err = c.print(line)
	} else {
		err = printLine(c.Stdout, line, *brief)
	}
	if err == nil && len(line.Devices) > 0 && line.Devices[0].Problem != "" {
		return &ExitError{exitNotWell, fmt.Sprintf("the plan of device %s/%s is not whole", d.Namespace, d.Name)}
	}
	return err
}

// texts is a flag that may be repeated.
type texts []string

func (t *texts) String() string { return strings.Join(*t, ",") }
func (t *texts) Set(s string) error {
	*t = append(*t, s)
	return nil
}

// planFiles plans manifests, without an agent.
func planFiles(c *command, files []string, brief bool) error {
	var all manifests
	for _, name := range files {
		text, err := readFile(name)
		if err != nil {
			return err
		}
		if err := all.add(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(all.devices) == 0 {
		return fmt.Errorf("%s: there is no Device in it", strings.Join(files, ", "))
	}
	var plans []control.DevicePlan
	drivers, wrong := c.Drivers(), 0
	for _, d := range all.devices {
		cycles, problems, err := devices.PlanManifest(d, all.modelOf(d), drivers, c.Ports)
		wrong += len(problems)
		if fatal := cycles == nil && err == nil; fatal { // the plan says why there is none
			err = fmt.Errorf("it cannot be polled as it stands: %s", strings.Join(problems, "; "))
		} else {
			for _, p := range problems {
				fmt.Fprintf(c.Stderr, "device %s/%s: %s\n", d.Metadata.Namespace, d.Metadata.Name, p)
			}
		}
		plans = append(plans, control.PlanOf(d.Metadata.Namespace, d.Metadata.Name, cycles, err))
	}
	lines := control.Lines(plans)
	if c.json {
		if err := c.print(lines); err != nil {
			return err
		}
	} else {
		for i, l := range lines {
			if i > 0 {
				fmt.Fprintln(c.Stdout)
			}
			if err := printLine(c.Stdout, l, brief); err != nil {
				return err
			}
		}
	}
	if wrong > 0 {
		return &ExitError{exitNotWell, fmt.Sprintf("%d problems in the manifests", wrong)}
	}
	return nil
}

const maxManifest = 16 << 20

func readFile(name string) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the technician's own file
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("it is larger than %d bytes", maxManifest)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// printLine shows the devices of a line.
func printLine(w io.Writer, l control.LinePlan, brief bool) error {
	if l.Line != "" {
		fmt.Fprintf(w, "line %s: %s\n", printable(l.Line), load(l.Load))
		if l.Load > 1 {
			fmt.Fprintln(w, "  MORE THAN THE LINE CAN CARRY: values will be older than their collectCycle. Raise collectCycle or the baud rate, let maxGap join requests, or read less")
		}
	}
	for _, d := range l.Devices {
		fmt.Fprintf(w, "device %s/%s: %s\n", d.Namespace, d.Name, load(d.Load()))
		if d.Problem != "" {
			fmt.Fprintf(w, "  %s\n", printable(d.Problem))
		}
		for _, cycle := range d.Cycles {
			printCycle(w, cycle, brief)
		}
	}
	return nil
}

func load(share float64) string {
	if share == 0 {
		return "load not computed"
	}
	return fmt.Sprintf("load %.1f %%", 100*share)
}

func printCycle(w io.Writer, c control.Cycle, brief bool) {
	bytes, properties := 0, 0
	var busy time.Duration
	for _, r := range c.Requests {
		bytes += r.Bytes
		busy += r.Time
		properties += len(r.Properties)
	}
	text := fmt.Sprintf("  every %v: %d properties, %d requests, %d bytes", c.Every, properties, len(c.Requests), bytes)
	if busy > 0 {
		text += fmt.Sprintf(", %v on the line (%.1f %%)", rounded(busy), 100*c.Load)
	}
	fmt.Fprintln(w, text)
	if c.Note != "" {
		fmt.Fprintf(w, "    %s\n", printable(c.Note))
	}
	if brief {
		return
	}
	t := tabs(w)
	for i, r := range c.Requests {
		took := "-"
		if r.Time > 0 {
			took = rounded(r.Time).String()
		}
		fmt.Fprintf(t, "    %d\t%s\t%d bytes\t%s\t%s\n", i+1, printable(r.Text), r.Bytes, took, shown(strings.Join(r.Properties, " ")))
	}
	_ = t.Flush() // what cannot be printed cannot be told either
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Microsecond)
}
