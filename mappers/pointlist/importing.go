package pointlist

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/mappers/device"
)

// Import is one import as a command does it: what is asked for, and how it is done. Fill it in, add its Flags, call Run.
type Import struct {
	Options     Options
	Names       Names
	SkipRefused bool // write manifests of the rest
	// Compile judges a visitor, where the drivers are at hand.
	Compile func(protocol string, cfg device.PointConfig) error
	// Check judges the device's configData, where the drivers are at hand.
	Check func(protocol string, cfg device.Config) error
}

// ErrRefused means that points were refused; which, and why, has been said.
var ErrRefused = errors.New("points were refused")

// pairFlag is a flag NAME=VALUE that may be repeated.
type pairFlag struct {
	set func(name, value string) error
}

func (p pairFlag) String() string { return "" }
func (p pairFlag) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return errors.New("NAME=VALUE is needed")
	}
	return p.set(name, value)
}

// Flags adds the flags of an import to a command's.
func (i *Import) Flags(fs *flag.FlagSet) {
	i.Options.Columns, i.Names.Protocol = map[string]string{}, map[string]any{}
	fs.StringVar(&i.Names.Model, "model", "", "`name` of the DeviceModel; needed")
	fs.StringVar(&i.Names.Device, "device", "", "`name` of the Device; default: that of the model")
	fs.StringVar(&i.Names.Node, "node", i.Names.Node, "the gateway's `name`, for spec.nodeName")
	fs.StringVar(&i.Options.Table, "table", "", "register `table` of addresses that name none: holding, input, coil, discrete")
	fs.StringVar(&i.Options.Type, "type", "", "`type` of points that have none, as uint16")
	fs.StringVar(&i.Options.Addressing, "addressing", "auto", "how addresses `count`: auto, zero, one, modicon (40001)")
	fs.StringVar(&i.Options.Order, "order", "", "byte `order` of values in several registers: ABCD, CDAB, BADC, DCBA")
	fs.BoolVar(&i.SkipRefused, "skip-refused", false, "print the manifests of what was understood, although some of it was not")
	fs.Var(pairFlag{func(name, value string) error {
		if !slices.Contains(Columns(), name) {
			return fmt.Errorf("%q: allowed are %s", name, strings.Join(Columns(), ", "))
		}
		i.Options.Columns[name] = value
		return nil
	}}, "map", "which column holds what, as `name=Signal` or address=2; may be repeated. Known: "+strings.Join(Columns(), ", "))
	fs.Var(pairFlag{func(name, value string) error {
		i.Names.Protocol[name] = value
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			i.Names.Protocol[name] = n
		}
		return nil
	}}, "set", "configData of the device, as `ip=10.0.0.7`; may be repeated")
}

// Run reads a list and writes manifests to out, and to notes what was assumed and what was refused. If anything was refused, nothing is
// written to out and the error wraps ErrRefused, unless SkipRefused is set.
func (i *Import) Run(data []byte, out, notes io.Writer) error {
	if i.Names.Model == "" {
		return errors.New("--model NAME is needed: the name of the DeviceModel that is made")
	}
	l, err := Read(data, i.Options)
	if err != nil {
		return err
	}
	if i.Compile != nil {
		l.Check(func(cfg device.PointConfig) error { return i.Compile(l.Protocol, cfg) })
	}
	for _, n := range l.Notes {
		fmt.Fprintln(notes, "note:", n)
	}
	slices.SortStableFunc(l.Refused, func(a, b Refusal) int { return a.Line - b.Line })
	for _, r := range l.Refused {
		fmt.Fprintln(notes, r)
	}
	switch {
	case len(l.Points) == 0:
		return fmt.Errorf("%w: none of %d was understood", ErrRefused, len(l.Refused))
	case len(l.Refused) > 0 && !i.SkipRefused:
		return fmt.Errorf("%w: %d of %d, so nothing is printed: correct the list, or leave them out with --skip-refused", ErrRefused,
			len(l.Refused), len(l.Refused)+len(l.Points))
	}
	names := i.Names
	config := maps.Clone(l.Config)
	if names.Protocol != nil {
		for given := range names.Protocol { // what is given replaces what the list says under another spelling, too
			maps.DeleteFunc(config, func(k string, _ any) bool { return strings.EqualFold(k, given) })
		}
	}
	l.Config = config
	if err := i.judge(l); err != nil {
		return err
	}
	if len(config)+len(names.Protocol) == 0 {
		names.Note = "spec.protocol.configData has to be filled in: how the device is reached"
	}
	text, err := Manifests(l, names)
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("write the manifests: %w", err)
	}
	fmt.Fprintf(notes, "%d points, %d refused\n", len(l.Points), len(l.Refused))
	return nil
}

// judge holds the device's configData, as far as it is given, to what the driver takes. What is missing may be filled in later.
func (i *Import) judge(l *List) error {
	config := maps.Clone(l.Config)
	if config == nil {
		config = map[string]any{}
	}
	maps.Copy(config, i.Names.Protocol)
	if i.Check == nil || len(config) == 0 {
		return nil
	}
	var wrong []string
	err := i.Check(l.Protocol, device.Config{Device: i.Names.Device, Protocol: config})
	for _, e := range device.FieldErrors(err) {
		name := e.Field[strings.LastIndexByte(e.Field, '.')+1:]
		if given := slices.ContainsFunc(slices.Collect(maps.Keys(config)), func(k string) bool { return strings.EqualFold(k, name) }); given || e.Value != nil {
			wrong = append(wrong, e.Error())
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the device's configData: %s: correct --set, or the list", strings.Join(wrong, "; "))
	}
	return nil
}
