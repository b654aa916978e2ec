package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
)

func metricsCommand() *cobra.Command {
	c := asker("metrics", "Print the daemon's metrics, for Prometheus", cobra.NoArgs, printMetrics)
	c.Long = `Print the daemon's metrics in Prometheus' text format: what this host has
mounted, how it stands to its exclusive volumes and to the cluster, and what
should be seldom. docs/metrics.md explains each, and says how to collect them.`
	return c
}

func printMetrics(c *cobra.Command, d *adminapi.Client, _ []string) error {
	text, err := d.Metrics(c.Context())
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(c.OutOrStdout(), text)
	return err
}
