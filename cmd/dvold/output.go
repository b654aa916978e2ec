package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/config"
)

// operator makes a command that asks the daemon and prints its answer, as a
// table or as JSON.
func operator(use, short string, args cobra.PositionalArgs, run func(c *cobra.Command, d *adminapi.Client, args []string) error) *cobra.Command {
	c := asker(use, short, args, run)
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if o, _ := c.Flags().GetString("output"); o != "table" && o != "json" {
			return misuse(c, fmt.Errorf("--output %q is not one of: table, json", o))
		}
		return nil
	}
	c.Flags().String("output", "table", "`form` of the answer: table or json")
	completeFlag(c, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// asker makes a command that asks the daemon.
func asker(use, short string, args cobra.PositionalArgs, run func(c *cobra.Command, d *adminapi.Client, args []string) error) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  usage(args),
		RunE: func(c *cobra.Command, args []string) error {
			socket, err := adminSocket(c)
			if err != nil {
				return err
			}
			return run(c, adminapi.NewClient(socket), args)
		},
	}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.Flags(all)
	c.Flags().AddFlag(all.Lookup("config"))
	c.Flags().AddFlag(all.Lookup("admin-socket"))
	c.ValidArgsFunction = cobra.NoFileCompletions
	return c
}

// adminSocket is where the daemon listens. The configuration isn't read where
// the flag or the environment says it: a broken file must not keep an operator
// from a daemon that runs.
func adminSocket(c *cobra.Command) (string, error) {
	if flag := c.Flags().Lookup("admin-socket"); flag.Changed {
		return flag.Value.String(), nil
	}
	if socket := os.Getenv("DVOL_ADMIN_SOCKET"); socket != "" {
		return socket, nil
	}
	cfg, err := config.Load(c.Flags())
	return cfg.AdminSocket, err
}

// print prints answer as JSON, or has table write rows of tab-separated cells.
func print(c *cobra.Command, answer any, table func(row func(cells ...any))) error {
	if o, _ := c.Flags().GetString("output"); o == "json" {
		e := json.NewEncoder(c.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	table(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	})
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(out.String()) {
		// Where the last cells are empty there is only what would keep others in line.
		if _, err := fmt.Fprintln(c.OutOrStdout(), strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// localTime is a time as operators read it.
func localTime(t time.Time) string { return t.Local().Format(time.DateTime) }

// mark is s if it applies.
func mark(applies bool, s string) string {
	if applies {
		return s
	}
	return ""
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// size is a number of bytes as operators read it.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	unit, f := 0, float64(n)/(1<<10)
	for f >= 1<<10 {
		unit, f = unit+1, f/(1<<10)
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}

// or is s, or instead where there is none.
func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}
