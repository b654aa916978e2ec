package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func poolCommand() *cobra.Command {
	ls := operator("ls", "List the pools of the cluster, and which hosts have them", cobra.NoArgs, poolList)
	return group("pool", "List pools, and find volumes in them", ls, poolScanCommand())
}

func poolList(c *cobra.Command, d *adminapi.Client, _ []string) error {
	all, err := d.Pools(c.Context())
	if err != nil {
		return err
	}
	return print(c, all, func(row func(...any)) {
		row("NAME", "TYPE", "DEFAULT", "TRASH TTL", "SILENT", "HOSTS", "LOCATION")
		for _, p := range all {
			row(p.Name, p.Type, mark(p.Default, "yes"), or(p.TrashTTL, "-"), or(p.Silent, "-"), strings.Join(p.Hosts, ","), p.Location)
		}
	})
}

func poolScanCommand() *cobra.Command {
	c := operator("scan [POOL...]", "Compare what lies in pools with the cluster's records", cobra.ArbitraryArgs, poolScan)
	c.Long = `Compare what lies in pools of this host with the cluster's records. Without
arguments: in all of them.

With --import it writes records for the volumes that have none: for the day on
which the coordinator's data was lost, or an old snapshot of it restored. A
volume whose name is taken by another comes into the trash, from where it can be
restored under a new name.`
	c.Flags().Bool("import", false, "bring back the volumes that the records miss")
	c.Flags().String("from", "", "also take those of another cluster, by its `ID`: of one that is no more")
	c.ValidArgsFunction = lister(poolNames).from
	return c
}

func poolScan(c *cobra.Command, d *adminapi.Client, pools []string) error {
	var o adminapi.Scan
	var err, fromErr error
	o.Import, err = c.Flags().GetBool("import")
	o.From, fromErr = c.Flags().GetString("from")
	if err := errors.Join(err, fromErr); err != nil {
		return err
	}
	if len(pools) == 0 {
		all, err := d.Pools(c.Context())
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.ThisHost {
				pools = append(pools, p.Name)
			}
		}
	}
	all := adminapi.Findings{Findings: []volumes.Finding{}}
	var problems []string
	for _, p := range pools {
		found, err := d.ScanPool(c.Context(), p, o)
		if err != nil {
			found.Problem = err.Error() // and other pools may be well
		}
		all.Findings = append(all.Findings, found.Findings...)
		if found.Problem != "" {
			problems = append(problems, found.Problem)
		}
	}
	all.Problem = strings.Join(problems, "; ")
	err = print(c, all, func(row func(...any)) {
		row("NAME", "POOL", "STATE", "ID", "")
		for _, f := range all.Findings {
			row(or(f.Name, "?"), f.Pool, f.State, f.ID, f.Problem)
		}
	})
	if err == nil && all.Problem != "" {
		err = errors.New(all.Problem)
	}
	return err
}
