package main

import (
	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/volumes"
)

func clusterCommand() *cobra.Command {
	accept := operator("accept", "Believe records that were lost or restored", cobra.NoArgs, clusterAccept)
	accept.Long = `Have all hosts believe the coordinator's records as they are now, after its data
was lost or an old snapshot of it restored. Until then hosts go on with the
volumes that they know, and create and remove none.

Do this last: first bring back what the records miss, with
dvold pool scan --import, on hosts that have the pools.`
	return group("cluster", "Show the cluster, and mend it after its records were lost",
		operator("show", "Show the cluster that this host is of", cobra.NoArgs, clusterShow), accept)
}

func clusterShow(c *cobra.Command, d *adminapi.Client, _ []string) error {
	v, err := d.Cluster(c.Context())
	if err != nil {
		return err
	}
	return printCluster(c, v)
}

func clusterAccept(c *cobra.Command, d *adminapi.Client, _ []string) error {
	v, err := d.AcceptCluster(c.Context())
	if err != nil {
		return err
	}
	return printCluster(c, v)
}

func printCluster(c *cobra.Command, v volumes.Cluster) error {
	return print(c, v, func(row func(...any)) {
		row("ID:", or(v.ID, "none yet"))
		row("Generation:", v.Generation)
		row("Records:", or(v.Problem, "answer, and are believed"))
	})
}
