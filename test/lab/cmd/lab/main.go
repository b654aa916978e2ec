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
    f1          10.99.0.31: a storage server, with "up --storage"
    g1 g2 g3    10.99.0.41 and on: GlusterFS nodes, with "up --gluster"
    c1 c2 c3    10.99.0.51 and on: Ceph nodes, with "up --ceph"
    /shared     one directory in all of them, as if a file system were mounted
    /dfs        the files of f1, mounted by sshfs on each host

Volumes made in the pool "shared", the default, can be used on every host, as
can those in "dfs". A host that is cut off from the storage waits for it;
/etc/lab/fence on another fences it at f1, as dvold's fence_command does:

    hack/lab exec h2 env DVOL_ACTION=fence DVOL_HOST=h1 /etc/lab/fence
    hack/lab exec h2 env DVOL_ACTION=unfence DVOL_HOST=h1 /etc/lab/fence
    hack/lab remount h1

The pool "gluster" lies in gv0, a replica on all three nodes. Clients go on while
two bricks are there; one that falls silent they notice within 10 s:

    hack/lab exec h1 docker run --rm --volume-driver dvol -v more:/data lab/busybox sh
    hack/lab gluster kill g3
    hack/lab gluster start g3
    hack/lab exec g1 gluster volume heal gv0 info

Ceph has a pool "rbd" and a file system "cephfs", and the hosts the keys of two users:
client.dvol uses them, client.dvol-fencer undoes fences. dvold has the pools "images",
whose volumes are exclusive, and "files" there. Ceph goes on while two nodes are up:

    hack/lab exec h1 docker volume create -d dvol -o pool=images -o access=exclusive db
    hack/lab exec h1 docker run --rm --volume-driver dvol -v db:/data lab/busybox touch /data/x
    hack/lab exec h1 rbd --id dvol ls
    hack/lab exec c1 ceph status
    hack/lab ceph kill c3
    hack/lab ceph start c3

With "up --guard" each host runs dvold's guard. Where it has a host reboot, the
host goes down and stays so until "reboot".

Nothing of it is seen on this machine but processes, cgroups and one directory;
"down" removes them all. A second lab has a directory of its own: --dir.

    hack/lab up
    hack/lab exec h1 docker run -it --rm --volume-driver dvol -v data:/data lab/busybox sh
    hack/lab exec h2 dvold volume ls
    hack/lab cut h1 consul
    hack/lab heal h1
    hack/lab freeze h1 dvold
    hack/lab thaw h1 dvold
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
	root.AddCommand(upCommand(&dir), superviseCommand(&dir), downCommand(&dir), statusCommand(&dir), execCommand(&dir), cutCommand(&dir),
		glusterCommand(&dir), cephCommand(&dir),
		daemonCommand(&dir, "freeze", "Stop all processes of a machine, containers included, or one of its daemons"),
		daemonCommand(&dir, "thaw", "Let a frozen machine, or a frozen daemon, go on"))
	for _, act := range []struct{ name, short string }{
		{"heal", "Undo every cut of a machine"},
		{"remount", "Mount the storage anew on a host, after it was fenced or the server rebooted"},
		{"kill", "End all processes of a machine at once, as a power cut does; its disk stays"},
		{"reboot", "Kill a machine unless it is down, boot it and start its daemons"},
	} {
		root.AddCommand(&cobra.Command{
			Use: act.name + " MACHINE", Short: act.short, Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error { return order(c, dir, act.name, args[0]) },
		})
	}
	return root
}

// daemonCommand is a command for a machine or one of its daemons.
func daemonCommand(dir *string, act, short string) *cobra.Command {
	return &cobra.Command{
		Use:   act + " MACHINE [dvold|guard|dockerd|consul|sshfs|sshd|glusterd|mon|osd|mgr|mds|all]",
		Short: short,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return order(c, *dir, append([]string{act}, append(args, "all")[:2]...)...)
		},
	}
}

func cutCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "cut MACHINE [consul|storage|all]",
		Short: "Drop all packets between a machine and the Consul servers, the storage servers, all kinds of them, or everybody (the default)",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			return order(c, *dir, append([]string{"cut"}, append(args, string(lab.All))[:2]...)...)
		},
	}
}
