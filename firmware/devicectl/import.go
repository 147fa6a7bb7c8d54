package devicectl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/pointlist"
)

// importList turns a list of points into manifests. It needs no agent.
func importList(c *command) error {
	i := pointlist.Import{Names: pointlist.Names{Node: c.Node}}
	i.Flags(c.flags)
	if err := c.parse(1, 1); err != nil {
		return err
	}
	if c.json {
		return wrongUsage("--json: manifests are printed as YAML")
	}
	if i.Names.Model == "" {
		return wrongUsage("--model NAME is needed: the name of the DeviceModel that is made")
	}
	i.Names.Namespace = c.namespace
	drivers := c.Drivers()
	driver := func(protocol string) (device.Driver, error) {
		for _, d := range drivers {
			if slices.ContainsFunc(d.Protocols(), func(p string) bool { return strings.EqualFold(p, protocol) }) {
				return d, nil
			}
		}
		return nil, fmt.Errorf("this gateway has no driver for %s", protocol)
	}
	i.Compile = func(protocol string, cfg device.PointConfig) error {
		d, err := driver(protocol)
		if err == nil {
			_, err = d.Compile(cfg)
		}
		return err
	}
	i.Check = func(protocol string, cfg device.Config) error {
		d, err := driver(protocol)
		if err == nil {
			err = d.Check(cfg)
		}
		return err
	}
	data, err := readFile(c.args[0])
	if err != nil {
		return err
	}
	return i.Run(data, c.Stdout, c.Stderr)
}
