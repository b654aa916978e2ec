package main

import (
	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
)

func poolCommand() *cobra.Command {
	return group("pool", "List pools", operator("ls", "List the pools of this host", cobra.NoArgs, poolList))
}

func poolList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Pools(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("NAME", "TYPE", "DEFAULT", "TRASH TTL", "LOCATION")
		for _, p := range all {
			row(p.Name, p.Type, mark(p.Default, "yes"), p.TrashTTL, p.Location)
		}
	})
}
