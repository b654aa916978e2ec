package main

import (
	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
)

func hostCommand() *cobra.Command {
	ls := operator("ls", "List the hosts of the cluster", cobra.NoArgs, hostList)
	ls.Long = `List the hosts of the cluster: all that ever ran dvold in it. One that is not
live has stopped reporting; it may still write to its volumes.`
	return group("host", "List hosts", ls)
}

func hostList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Hosts(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("NAME", "LIVE", "SINCE", "INCARNATION", "")
		for _, h := range all {
			row(h.Name, yesNo(h.Live), localTime(h.Since), h.Incarnation, mark(h.ThisHost, "this host"))
		}
	})
}
