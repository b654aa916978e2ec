package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// errDown means that no supervisor answers.
var errDown = errors.New("no lab is up")

// call sends an order to the supervisor and returns its answer.
func call(ctx context.Context, dir string, words ...string) ([]byte, error) {
	var d net.Dialer
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", socket(dir))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://lab/"+strings.Join(words, "/"), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w in %s (%w)", errDown, dir, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return text, err
}

// order has the supervisor do something and prints what it says.
func order(c *cobra.Command, dir string, words ...string) error {
	text, err := call(c.Context(), dir, words...)
	if err == nil {
		_, err = c.OutOrStdout().Write(text)
	}
	return err
}

func socket(dir string) string { return filepath.Join(dir, "lab.sock") }

func statusCommand(dir *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show the machines of the lab", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := call(c.Context(), *dir, "status")
			if err != nil {
				return err
			}
			if asJSON {
				_, err := c.OutOrStdout().Write(text)
				return err
			}
			var s status
			if err := json.Unmarshal(text, &s); err != nil {
				return err
			}
			return s.print(c.OutOrStdout(), *dir)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for machines")
	return c
}

func (s status) print(w io.Writer, dir string) error {
	fmt.Fprintf(w, "lab in %s, supervisor %d\n", dir, s.Supervisor)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tADDRESS\tSTATE\tCUT OFF FROM\tDAEMONS")
	for _, m := range s.Machines {
		more := ""
		if m.Leader {
			more = " (leader)"
		}
		if len(m.Frozen) > 0 {
			more += " (frozen: " + strings.Join(m.Frozen, ", ") + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s%s\n", m.Name, m.Address, m.State, orDash(m.CutOff), orDash(m.Daemons), more)
	}
	return table.Flush()
}

func orDash(words []string) string {
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ", ")
}

// absolute is what a path means in any directory.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	return path, err
}
