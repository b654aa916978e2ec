// Command lab keeps a cluster of test hosts for somebody to play with: package
// lab says what that is. A process in the background, the supervisor, owns the
// hosts; the other commands talk to it.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/test/lab"
)

// defaultDir is where the lab is unless --dir or DVOLD_LAB_DIR says otherwise.
// Not in /tmp, which may be a tmpfs: engines need a file system that overlays
// work on.
const defaultDir = "/var/tmp/dvol-lab"

const manual = `A cluster of real Docker hosts on this machine, each with dockerd, dvold and a
Consul agent, on a network of their own:

    h1 h2 h3    10.99.0.11 and on: Docker hosts
    s1 s2 s3    10.99.0.21 and on: Consul servers
    /shared     one directory in all of them, as if a file system were mounted

Volumes made in the pool "shared", the default, can be used on every host.
Nothing of it is seen on this machine but processes, cgroups and one directory;
"down" removes them all. A second lab has a directory of its own: --dir.

    hack/lab up
    hack/lab exec h1 docker run -it --rm --volume-driver dvol -v data:/data lab/busybox sh
    hack/lab exec h2 dvold volume ls
    hack/lab cut h1 consul
    hack/lab heal h1
    hack/lab down`

func main() {
	err := rootCommand().Execute()
	var exit exitError
	if errors.As(err, &exit) {
		os.Exit(int(exit))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	dir := os.Getenv("DVOLD_LAB_DIR")
	if dir == "" {
		dir = defaultDir
	}
	root := &cobra.Command{
		Use:           "hack/lab",
		Short:         "A cluster of real Docker hosts on this machine",
		Long:          manual,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&dir, "dir", dir, "the lab's `directory`; also DVOLD_LAB_DIR")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if missing := lab.Missing(); missing != "" {
			return fmt.Errorf("the lab can't run here: %s", missing)
		}
		return nil
	}
	root.AddCommand(upCommand(&dir), superviseCommand(&dir), downCommand(&dir), statusCommand(&dir), execCommand(&dir), cutCommand(&dir))
	for _, act := range []struct{ name, short string }{
		{"heal", "Undo every cut of a machine"},
		{"kill", "End all processes of a machine at once, as a power cut does; its disk stays"},
		{"freeze", "Stop all processes of a machine, containers included"},
		{"thaw", "Let a frozen machine go on"},
		{"reboot", "Kill a machine unless it is down, boot it and start its daemons"},
	} {
		root.AddCommand(&cobra.Command{
			Use: act.name + " MACHINE", Short: act.short, Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return order(c, dir, act.name, args[0]) },
		})
	}
	return root
}

func cutCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "cut MACHINE [consul|storage|all]",
		Short: "Drop all packets between a machine and the Consul servers, the storage servers or everybody (the default)",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return order(c, *dir, append([]string{"cut"}, append(args, string(lab.All))[:2]...)...)
		},
	}
}
