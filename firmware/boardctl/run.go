package boardctl

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/inspect"
)

// Env is what a command works with.
type Env struct {
	Stdout, Stderr io.Writer
	Root           string         // of /dev, /sys and /proc; "/" but in tests
	Dir            string         // of boards on the device
	Name           string         // that the configuration gives; empty: recognise it
	System         inspect.System // its Root is set by Run
}

// The exit statuses.
const (
	Good    = 0
	Differs = 1
	Failed  = 2
)

const usage = `usage: skerryctl board VERB

  list          all boards that are known here; * is this one
  show [NAME]   the description of a board, with all that it takes over from others
  check [NAME]  compare a description with the machine (-o json)

Exit status: 0 all is as described, 1 it is not, 2 it could not be checked.
`

// Run runs one command.
func Run(args []string, env Env) (status int, err error) {
	env.System.Root = env.Root
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(env.Stdout, usage)
		return Good, nil
	}
	verb, args := args[0], args[1:]
	fs := flag.NewFlagSet("skerryctl board "+verb, flag.ContinueOnError)
	fs.SetOutput(env.Stderr)
	format := fs.String("o", "text", "output `format` of check: text or json")
	err = fs.Parse(args)
	name := fs.Arg(0)
	if err == nil && name != "" { // flags may stand behind the name too
		err = fs.Parse(fs.Args()[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return Good, nil
	case err != nil:
		return Failed, err
	case fs.NArg() > 0 || verb == "list" && name != "":
		return Failed, fmt.Errorf("skerryctl board %s: too many arguments", verb)
	case *format != "text" && *format != "json":
		return Failed, fmt.Errorf("-o %q: allowed are text and json", *format)
	}
	switch verb {
	case "list":
		return env.list()
	case "show":
		return env.show(name)
	case "check":
		return env.check(name, *format == "json")
	}
	return Failed, fmt.Errorf("skerryctl board %s: there is no such verb; allowed are list, show and check", verb)
}

func (e Env) library() board.Library { return board.Library{Dir: e.Dir} }

// choose returns the board of a name, or this machine's, and tells of files that cannot be read.
func (e Env) choose(name string) (board.Choice, error) {
	if name != "" {
		d, err := e.library().Load(name)
		return board.Choice{Descriptor: d, Why: "asked for"}, err
	}
	c, err := e.library().Choose(e.Name, board.Identify(e.Root))
	for _, s := range c.Skipped {
		fmt.Fprintln(e.Stderr, "skipped:", s)
	}
	return c, err
}

func (e Env) list() (int, error) {
	this, err := e.choose("")
	if err != nil {
		return Failed, err
	}
	w := tabwriter.NewWriter(e.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, " \tBOARD\tFOR\tBUDGET\tFROM\tTITLE")
	for _, name := range e.library().Names() {
		d, err := e.library().Load(name)
		if err != nil {
			fmt.Fprintf(w, "!\t%s\t\t\t\t%s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		mark := " "
		if name == this.Name {
			mark = "*"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", mark, name, strings.Join(d.Architectures, ","), d.Memory.Budget, d.Source, d.Title)
	}
	if err := w.Flush(); err != nil {
		return Failed, err
	}
	fmt.Fprintf(e.Stdout, "\n* %s: %s\n", this.Name, this.Why)
	return Good, nil
}

func (e Env) show(name string) (int, error) {
	c, err := e.choose(name)
	if err != nil {
		return Failed, err
	}
	text, err := c.YAML()
	if err != nil {
		return Failed, err
	}
	fmt.Fprintf(e.Stdout, "# %s (%s)\n%s", c.Source, c.Why, text)
	return Good, nil
}

func (e Env) check(name string, asJSON bool) (int, error) {
	c, err := e.choose(name)
	if err != nil {
		return Failed, err
	}
	report := inspect.Check(c.Descriptor, e.System)
	if asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = e.table(c, report)
	}
	switch {
	case err != nil:
		return Failed, err
	case !report.Good():
		return Differs, nil
	}
	return Good, nil
}

// table prints the report, and at its end what to do.
func (e Env) table(c board.Choice, report inspect.Report) error {
	fmt.Fprintf(e.Stdout, "board %s (%s; %s)\n\n", c.Name, c.Source, c.Why)
	w := tabwriter.NewWriter(e.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PART\tNAME\tSTATE\tFOUND")
	var do []string
	for _, r := range report.Rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Part, r.Name, r.State, r.Found)
		if r.State != inspect.OK && r.Do != "" {
			do = append(do, fmt.Sprintf("%s %s: %s", r.Part, r.Name, r.Do))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if report.Good() {
		fmt.Fprintln(e.Stdout, "\nall is as described")
		return nil
	}
	fmt.Fprintln(e.Stdout, "\nwhat to do:\n  "+strings.Join(do, "\n  "))
	return nil
}
