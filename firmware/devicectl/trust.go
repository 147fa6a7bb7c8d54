package devicectl

import (
	"fmt"
	"time"
)

func trust(c *command) error {
	if err := c.parse(1, 2); err != nil {
		return err
	}
	switch what := c.args[0]; {
	case what == "list" && len(c.args) == 1:
		return listTrust(c)
	case (what == "accept" || what == "reject") && len(c.args) == 2:
		cert, err := c.client.Decide(c.ctx, c.args[1], what)
		if err != nil {
			return err
		}
		if c.json {
			return c.print(cert)
		}
		fmt.Fprintf(c.Stdout, "%s: %s (%s)\n", cert.State, printable(cert.Subject), cert.Fingerprint)
		if what == "accept" {
			fmt.Fprintln(c.Stdout, "devices that were refused for it connect by themselves with their next attempt")
		}
		return nil
	}
	return wrongUsage("usage: skerryctl device trust list | accept FINGERPRINT | reject FINGERPRINT")
}

func listTrust(c *command) error {
	all, err := c.client.Certificates(c.ctx)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(all)
	}
	if len(all) == 0 {
		fmt.Fprintln(c.Stderr, "there are no certificates yet: a server's gets into the list when a device first tries to connect to it")
		return nil
	}
	t := c.table()
	fmt.Fprintln(t, "STATE\tFINGERPRINT\tSUBJECT\tAPPLICATION URI\tVALID UNTIL")
	for _, x := range all {
		until := x.NotAfter.UTC().Format(time.DateOnly)
		if time.Now().After(x.NotAfter) {
			until += " (expired)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.State, x.Fingerprint, shown(x.Subject), shown(x.ApplicationURI), until)
	}
	return t.Flush()
}
