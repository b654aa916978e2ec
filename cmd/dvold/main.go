// Command dvold is the Docker volume driver "dvol" of one host, and the
// operator's tool for it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at build time.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dvold:", oneLine(err))
		os.Exit(exitCode(err))
	}
}

// run is the program: it ends when its work is done or, for serve, after ctx.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := rootCommand(stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func rootCommand(stderr io.Writer) *cobra.Command {
	root := group("dvold", "Docker volumes that follow your containers",
		serveCommand(stderr), guardCommand(stderr), volumeCommand(), trashCommand(), poolCommand(), hostCommand(), clusterCommand(),
		metricsCommand(), migrateCommand(), configCommand(), completionCommand(), versionCommand())
	root.Long = `Docker volumes that follow your containers: the volume driver "dvol" of this
host (dvold serve), and the operator's commands for it.`
	root.SilenceUsage = true
	root.SilenceErrors = true
	root.CompletionOptions.DisableDefaultCmd = true // ours says what it is for
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misuse(c, err) })
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version)
			return err
		},
	}
}

// usageError is a command that was given wrongly; nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func misuse(c *cobra.Command, err error) error {
	return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
}

// usage makes the errors of args usageErrors.
func usage(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := args(c, given); err != nil {
			return misuse(c, err)
		}
		return nil
	}
}

// exitCode is 2 for wrong usage and 1 for all other errors.
func exitCode(err error) int {
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// oneLine is the text of err, joined errors and all.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
