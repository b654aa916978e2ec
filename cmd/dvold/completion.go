package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
)

// completionTimeout bounds how long a shell waits for names.
const completionTimeout = 10 * time.Second

func completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that has a shell complete dvold's commands",
		Long: `Print a script that has a shell complete dvold's commands, and the names of
volumes, removed volumes and pools: for these it asks the daemon, so they are
completed for root.`,
		Example: `  dvold completion bash >/etc/bash_completion.d/dvold
  dvold completion zsh >/usr/local/share/zsh/site-functions/_dvold
  dvold completion fish >/etc/fish/completions/dvold.fish`,
		Args:      usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(c.OutOrStdout(), true)
			case "zsh":
				return c.Root().GenZshCompletion(c.OutOrStdout())
			}
			return c.Root().GenFishCompletion(c.OutOrStdout(), true)
		},
	}
}

// lister asks the daemon for words to choose from.
type lister func(context.Context, *adminapi.Client) ([]string, error)

// from completes with what the lister says, except for words given already. If
// the daemon doesn't answer there is nothing to choose from, and no error.
func (list lister) from(c *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
	socket, err := adminSocket(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	words, err := list(ctx, adminapi.NewClient(socket))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	words = slices.DeleteFunc(words, func(w string) bool {
		return slices.Contains(given, w) || !strings.HasPrefix(w, typed)
	})
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeOne has c complete its first argument, and no other.
func completeOne(c *cobra.Command, list lister) *cobra.Command {
	c.ValidArgsFunction = func(c *cobra.Command, given []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list.from(c, given, typed)
	}
	return c
}

// completeFlag has c complete the value of a flag that it has.
func completeFlag(c *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(fmt.Sprintf("flag --%s of %s: %v", flag, c.Name(), err)) // it has no such flag
	}
}

func volumeNames(ctx context.Context, d *adminapi.Client) (names []string, err error) {
	all, err := d.Volumes(ctx)
	for _, v := range all {
		names = append(names, v.Name)
	}
	return names, err
}

// trashNames lists the IDs of removed volumes.
func trashNames(ctx context.Context, d *adminapi.Client) (names []string, err error) {
	all, err := d.Trash(ctx)
	for _, t := range all {
		names = append(names, t.ID)
	}
	return names, err
}

func poolNames(ctx context.Context, d *adminapi.Client) (names []string, err error) {
	all, err := d.Pools(ctx)
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, err
}

// volumeOptions lists the options that all backends have.
func volumeOptions(ctx context.Context, d *adminapi.Client) ([]string, error) {
	options := []string{"access=exclusive", "access=shared", "adopt=", "gid=", "mode=", "mount_wait=", "retain=true", "size=", "takeover=auto", "takeover=manual", "takeover=never", "uid="}
	pools, err := poolNames(ctx, d)
	for _, p := range pools {
		options = append(options, "pool="+p)
	}
	return options, err
}

// localNames lists the volumes of Docker's local driver that can be migrated.
func localNames(c *cobra.Command) lister {
	return func(ctx context.Context, d *adminapi.Client) (names []string, err error) {
		root, err := c.Flags().GetString("docker-root")
		if err != nil {
			return nil, err
		}
		all, err := d.Local(ctx, root)
		for _, l := range all {
			if !l.Anonymous && l.Problem == "" {
				names = append(names, l.Name)
			}
		}
		return names, err
	}
}
