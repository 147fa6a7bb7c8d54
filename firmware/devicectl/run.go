package devicectl

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

// Env is what a command works with.
type Env struct {
	Stdout, Stderr io.Writer
	Socket         string // of the agent's control service
	Node           string // this gateway's name, for manifests that are printed; may be empty
	// Drivers returns new instances of all drivers, for what needs no agent.
	Drivers  func() []device.Driver
	Terminal bool           // Stderr is one: progress is drawn in place
	Width    int            // columns of the terminal that Stdout is; 0: it is none, and nothing is cut off
	Ports    []devices.Port // of the board
}

// Exit statuses.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitNotWell = 3
)

// ExitError is how a command ended if not well. An empty text has been said already.
type ExitError struct {
	Status int
	Text   string
}

func (e *ExitError) Error() string { return e.Text }

func wrongUsage(format string, args ...any) error {
	return &ExitError{exitUsage, fmt.Sprintf(format, args...)}
}

// verb is one `skerryctl device VERB`.
type verb struct {
	name, args, short string
	run               func(c *command) error
}

func verbs() []verb {
	return []verb{
		{"list", "[DEVICE…]", "the devices of this gateway: state, last contact, what is wrong; all of it, of devices that are named", list},
		{"read", "DEVICE [PROPERTY…]", "ask a device for its values now", read},
		{"write", "DEVICE PROPERTY=VALUE…", "write values, and show what the device says afterwards", write},
		{"watch", "[DEVICE [PROPERTY…]]", "show values as they change", watch},
		{"history", "DEVICE [PROPERTY]", "values that were kept on the gateway", history},
		{"call", "DEVICE METHOD [ARGUMENT=VALUE…]", "call a method of a device", call},
		{"browse", "DEVICE [NODE]", "list what a device offers (OPC UA); --model prints manifests", browse},
		{"scan", "PORT|ADDRESS", "find devices on a serial line or behind an address", scan},
		{"plan", "DEVICE | -f FILE", "the requests of each cycle, and how busy they keep the line", plan},
		{"import", "FILE", "make manifests of a point list (CSV) or of Neuron's tags", importList},
		{"trust", "list | accept FINGERPRINT | reject FINGERPRINT", "certificates of OPC UA servers", trust},
	}
}

// command is one invocation.
type command struct {
	Env
	ctx       context.Context
	verb      verb
	flags     *flag.FlagSet
	args      []string
	namespace string
	json      bool
	client    *control.Client
}

// Run runs `device ARGS…`.
func Run(ctx context.Context, args []string, env Env) error {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage(env.Stdout)
		return nil
	}
	i := slices.IndexFunc(verbs(), func(v verb) bool { return v.name == args[0] })
	if strings.HasPrefix(args[0], "-") {
		return wrongUsage("%s: flags stand behind the verb: skerryctl device VERB %s …", args[0], args[0])
	}
	if i < 0 {
		var names []string
		for _, v := range verbs() {
			names = append(names, v.name)
		}
		return wrongUsage("unknown verb %q of device (known: %s)", args[0], strings.Join(names, ", "))
	}
	c := &command{Env: env, ctx: ctx, verb: verbs()[i], args: args[1:]}
	c.flags = flag.NewFlagSet("device "+c.verb.name, flag.ContinueOnError)
	c.flags.SetOutput(env.Stderr)
	c.flags.StringVar(&c.namespace, "n", "", "`namespace` of the device; default: wherever there is one of that name")
	c.flags.BoolVar(&c.json, "json", false, "print JSON, for scripts")
	c.flags.StringVar(&c.Socket, "socket", env.Socket, "the agent's control `socket`")
	c.flags.Usage = func() {
		fmt.Fprintf(env.Stderr, "usage: skerryctl device %s %s\n%s\n\n", c.verb.name, c.verb.args, c.verb.short)
		c.flags.PrintDefaults()
	}
	err := c.verb.run(c)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	var exit *ExitError
	if err != nil && !errors.As(err, &exit) {
		return &ExitError{exitFailed, "device " + c.verb.name + ": " + err.Error()}
	}
	return err
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: skerryctl device VERB …\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range verbs() {
		fmt.Fprintf(t, "  %s %s\t%s\n", v.name, v.args, v.short)
	}
	_ = t.Flush() // what cannot be printed cannot be told either
	fmt.Fprint(w, "\nDEVICE is NAME or NAMESPACE/NAME. Every verb knows -h and --json. Exit status: 0 well, 1 failed, 2 called wrongly, 3 done but not all is well.\n")
}

// parse reads flags, which may stand anywhere, and checks how many arguments are left.
func (c *command) parse(least, most int) error {
	rest, left := []string{}, c.args
	for {
		if err := c.flags.Parse(left); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return &ExitError{exitUsage, ""} // the flag package has said it
		}
		left = c.flags.Args()
		if len(left) == 0 {
			break
		}
		rest, left = append(rest, left[0]), left[1:]
	}
	c.args = rest
	if len(rest) < least || most >= 0 && len(rest) > most {
		return wrongUsage("usage: skerryctl device %s %s (skerryctl device %s -h says more)", c.verb.name, c.verb.args, c.verb.name)
	}
	c.client = control.NewClient(c.Socket)
	return nil
}

// find returns the device that an argument names.
func (c *command) find(arg string) (control.Device, error) {
	namespace, name, ok := strings.Cut(arg, "/")
	if !ok {
		namespace, name = c.namespace, arg
	}
	all, err := c.client.Devices(c.ctx)
	if err != nil {
		return control.Device{}, err
	}
	var found []control.Device
	var names []string
	for _, d := range all {
		if d.Name == name && (namespace == "" || d.Namespace == namespace) {
			found = append(found, d)
		}
		names = append(names, d.Namespace+"/"+d.Name)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if len(names) == 0 {
			return control.Device{}, fmt.Errorf("this gateway has no device %s, nor any other: apply a Device whose spec.nodeName is this gateway", arg)
		}
		return control.Device{}, fmt.Errorf("this gateway has no device %s; it has: %s", arg, strings.Join(names, ", "))
	}
	return control.Device{}, fmt.Errorf("several namespaces have a device %s: say which with NAMESPACE/%s", arg, name)
}

// print writes a document for scripts.
func (c *command) print(doc any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// line writes a document in one line.
func (c *command) line(doc any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

// rows prints a table. On a terminal the last column is cut so that a row is a line, but never to less than 30 characters.
func (c *command) rows(rows [][]string) error {
	if c.Width > 0 && len(rows) > 0 {
		last, used := len(rows[0])-1, 0
		for col := range last {
			widest := 0
			for _, r := range rows {
				widest = max(widest, utf8.RuneCountInString(r[col]))
			}
			used += widest + 2
		}
		room := max(30, c.Width-used)
		for _, r := range rows {
			if text := []rune(r[last]); len(text) > room {
				r[last] = string(text[:room-1]) + "…"
			}
		}
	}
	t := c.table()
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

func (c *command) table() *tabwriter.Writer { return tabs(c.Stdout) }

func tabs(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// age says how long ago something was.
func age(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	switch d := time.Since(t); {
	case d < 0:
		return "0s" // the clock was set back since
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0fh", d.Hours())
	default:
		return fmt.Sprintf("%.0fd", d.Hours()/24)
	}
}

// shown makes a text fit into a table: what devices send may hold anything.
func shown(s string) string {
	const most = 60
	s = printable(s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	if s == "" {
		return "-"
	}
	return s
}

// printable takes out what would move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 {
			return '·'
		}
		return r
	}, s)
}
