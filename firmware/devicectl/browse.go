package devicectl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/mappers/pointlist"
)

func browse(c *command) error {
	var req control.BrowseRequest
	c.flags.IntVar(&req.Depth, "depth", 0, "how many `levels`; default: 1, with --model 8")
	c.flags.IntVar(&req.Limit, "limit", 1000, "how many `entries` at most")
	model := c.flags.String("model", "", "print a DeviceModel of this `name` and a Device, ready for kubectl apply")
	name := c.flags.String("device", "", "`name` of the Device that is printed; default: that of the model")
	if err := c.parse(1, 2); err != nil {
		return err
	}
	if len(c.args) == 2 {
		req.Node = c.args[1]
	}
	if req.Depth == 0 && *model != "" {
		req.Depth = 8
	}
	d, err := c.find(c.args[0])
	if err != nil {
		return err
	}
	v := &browseView{command: c, quiet: *model != ""}
	if err := c.client.Browse(c.ctx, d.Namespace, d.Name, req, v.show); err != nil {
		return err
	}
	if *model != "" {
		err = v.manifests(d, *model, *name)
	}
	switch {
	case err != nil:
		return err
	case v.failed > 0:
		return &ExitError{exitNotWell, fmt.Sprintf("%d folders could not be browsed", v.failed)}
	case v.cut != "":
		return &ExitError{exitNotWell, v.cut + ": give --limit, or a NODE further down"}
	}
	return nil
}

// browseView shows what is found.
type browseView struct {
	*command
	quiet  bool
	all    []control.Entry
	failed int
	cut    string
}

func (v *browseView) show(e control.Entry) error {
	switch {
	case e.End != "":
		v.cut = e.End
	case e.Error != nil:
		v.failed++
		fmt.Fprintf(v.Stderr, "%s: %s\n", printable(strings.Join(e.Path, "/")), printable(e.Error.Text))
	case v.quiet:
		v.all = append(v.all, e)
	case v.json:
		return v.line(e)
	default:
		what := "folder"
		if e.Visitor != nil {
			if what = e.Type; what == "" {
				what = "method"
			}
			if e.Writable {
				what += ", writable"
			}
			what += "  " + flow(e.Visitor)
		}
		_, err := fmt.Fprintf(v.Stdout, "%s%s  [%s]  %s\n", strings.Repeat("  ", len(e.Path)-1), printable(last(e.Path)), printable(e.Node), what)
		return err
	}
	return nil
}

func last(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

// manifests prints a DeviceModel and a Device of what can be read.
func (v *browseView) manifests(d control.Device, model, name string) error {
	list := pointlist.List{Protocol: d.Protocol}
	seen := map[string]bool{}
	for _, e := range v.all {
		if e.Visitor == nil {
			continue
		}
		if e.Type == "" { // a method, which is called and not read: a property has to have some type all the same
			e.Type = "STRING"
		}
		list.Points = append(list.Points, pointlist.Point{Name: unique(seen, pointlist.PropertyName(strings.Join(e.Path, "-"))), Type: e.Type,
			Writable: e.Writable, Station: -1, Visitor: e.Visitor})
	}
	if len(list.Points) == 0 {
		return errors.New("there is nothing among it that can be read: give a NODE further down, or --depth")
	}
	text, err := pointlist.Manifests(&list, pointlist.Names{Namespace: d.Namespace, Model: model, Device: name, Node: v.Node,
		Protocol: map[string]any{}, Note: "configData of the device " + d.Namespace + "/" + d.Name + " that was browsed has to be filled in"})
	if err != nil {
		return err
	}
	_, err = v.Stdout.Write(text)
	return err
}

// unique makes a name that has not been given yet.
func unique(seen map[string]bool, name string) string {
	if name == "" {
		name = "point"
	}
	out := name
	for n := 2; seen[out]; n++ {
		out = fmt.Sprintf("%s-%d", name, n)
	}
	seen[out] = true
	return out
}
