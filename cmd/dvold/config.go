package main

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/config"
)

func configCommand() *cobra.Command {
	check := &cobra.Command{
		Use:   "check",
		Short: "Read the configuration as serve would, and say what is wrong",
		Long: `Read the configuration as serve would, with the files that it names for Consul,
and say what is wrong.

It asks no server and opens no pool, so it can't tell whether they are there,
nor whether they take the token, the certificate or the keys.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return configCheck(c) },
	}
	config.Flags(check.Flags())
	return group("config", "Check the configuration", check)
}

func configCheck(c *cobra.Command) error {
	cfg, err := config.Load(c.Flags())
	if err != nil {
		return err
	}
	if err := checkGuard(c.Context(), cfg); err != nil {
		return err
	}
	pools, err := poolOpeners(c.Context(), cfg)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		fmt.Fprintf(c.OutOrStdout(), "pool %s: %s at %s\n", name, cfg.Pools[name].Type, pools[name].location)
	}
	if cfg.Coordination.Type == "consul" { // opening it asks no server, and an embedded one may be in use
		coord, err := openCoordinator(c.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		if err := coord.Close(); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "host %s, %s coordination, default pool %s: ok\n", cfg.Host, cfg.Coordination.Type, cfg.DefaultPool)
	return err
}
