package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dvol/dvold/test/lab"
)

// clusterFlags are those that up hands on to the supervisor.
func clusterFlags(c *cobra.Command, o *lab.ClusterOptions) {
	c.Flags().IntVar(&o.Hosts, "hosts", 3, "`number` of Docker hosts")
	c.Flags().IntVar(&o.Servers, "servers", 3, "`number` of Consul servers: 1, 3, or 0 for hosts that know nothing of each other")
	c.Flags().BoolVar(&o.Guard, "guard", false, "run dvold's guard on each host")
	c.Flags().BoolVar(&o.Storage, "storage", false, "have a storage server, f1, whose files are mounted at /dfs on each host")
	c.Flags().BoolVar(&o.Gluster, "gluster", false, "have three GlusterFS nodes, g1 to g3, and a pool in a replica on them")
	c.Flags().BoolVar(&o.Ceph, "ceph", false, "have three nodes of Ceph, c1 to c3, with a pool for images and a file system")
	c.Flags().StringVar(&o.Dvold, "dvold", "", "the dvold `binary`")
	c.Flags().StringVar(&o.Consul, "consul", "", "the consul `binary`")
	for _, ours := range []string{"dvold", "consul"} { // hack/lab sets them
		c.Flags().Lookup(ours).Hidden = true
	}
}

func upCommand(dir *string) *cobra.Command {
	var o lab.ClusterOptions
	c := &cobra.Command{
		Use: "up", Short: "Start the lab", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return up(c.Context(), c.OutOrStdout(), *dir, o)
		},
	}
	clusterFlags(c, &o)
	return c
}

// up starts a supervisor in the background and waits until the lab is up.
func up(ctx context.Context, w io.Writer, dir string, o lab.ClusterOptions) error {
	began := time.Now()
	warn(ctx)
	if missing := lab.MissingStorage(); o.Storage && missing != "" {
		return fmt.Errorf("the lab can't have storage here: %s", missing)
	}
	if missing := lab.MissingGluster(); o.Gluster && missing != "" {
		return fmt.Errorf("the lab can't have GlusterFS here: %s", missing)
	}
	if missing := lab.MissingCeph(); o.Ceph && missing != "" {
		return fmt.Errorf("the lab can't have Ceph here: %s", missing)
	}
	if _, err := call(ctx, dir, "status"); err == nil {
		_, err := fmt.Fprintf(w, "the lab in %s is up\n", dir)
		return err
	}
	if owner, err := owner(dir); err == nil && owner.Runs() {
		return fmt.Errorf("the supervisor of %s, process %d, does not answer yet; to end it: hack/lab down", dir, owner.PID)
	}
	if err := vacate(dir); err != nil {
		return err
	}
	for _, binary := range []*string{&o.Dvold, &o.Consul} {
		path, err := absolute(*binary)
		if err != nil {
			return err
		}
		*binary = path
	}
	said, err := os.CreateTemp("", "lab")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	supervisor := exec.Command("/proc/self/exe", "supervise", "--dir", dir, "--hosts", fmt.Sprint(o.Hosts),
		"--servers", fmt.Sprint(o.Servers), "--dvold", o.Dvold, "--consul", o.Consul,
		fmt.Sprintf("--guard=%t", o.Guard), fmt.Sprintf("--storage=%t", o.Storage), fmt.Sprintf("--gluster=%t", o.Gluster),
		fmt.Sprintf("--ceph=%t", o.Ceph))
	supervisor.Dir = "/" // or else it keeps ours in use
	supervisor.Stdout, supervisor.Stderr = said, said
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := supervisor.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- supervisor.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := call(ctx, dir, "status"); err == nil {
			return invite(w, dir, o, time.Since(began))
		}
		select {
		case <-tick.C:
		case err := <-ended:
			text, _ := os.ReadFile(said.Name())
			return errors.Join(fmt.Errorf("the lab did not come up: %w\n%s", err, text), vacate(dir))
		}
	}
}

// invite says what can be done now.
func invite(w io.Writer, dir string, o lab.ClusterOptions, took time.Duration) error {
	fmt.Fprintf(w, "the lab in %s is up: %d hosts, %d Consul servers, %.1f s\n", dir, o.Hosts, o.Servers, took.Seconds())
	if o.Hosts < 2 || o.Servers == 0 || o.Dvold == "" {
		return nil
	}
	at := ""
	if dir != defaultDir {
		at = "--dir " + dir + " "
	}
	_, err := fmt.Fprintf(w, `Write on one host, read on another:
    hack/lab %[1]sexec h1 docker run --rm --volume-driver dvol -v data:/data %[2]s sh -c 'echo hello > /data/x'
    hack/lab %[1]sexec h2 docker run --rm --volume-driver dvol -v data:/data %[2]s cat /data/x
    hack/lab %[1]sexec h2 dvold volume inspect data
`, at, lab.BusyBox)
	return err
}

func downCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "End the lab, with all its data", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			warn(ctx)
			if empty(*dir) {
				_, err := fmt.Fprintln(c.OutOrStdout(), "there is no lab in", *dir)
				return err
			}
			if err := down(ctx, *dir); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "the lab in %s is gone\n", *dir)
			return err
		},
	}
}

// down asks the supervisor to end the lab, then removes what is left.
func down(ctx context.Context, dir string) error {
	if owner, err := owner(dir); err == nil && owner.Runs() {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		call(asking, dir, "down") // if it can't hear, what follows does it
		const patience = 30 * time.Second
		for deadline := time.Now().Add(patience); owner.Runs() && asking.Err() == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		}
	}
	return vacate(dir)
}

// vacate removes what a lab has left in dir, also one whose supervisor hangs.
func vacate(dir string) error {
	if empty(dir) {
		return nil
	}
	owner, err := owner(dir)
	if err != nil {
		return fmt.Errorf("%s is no lab, and not empty: %w", dir, err)
	}
	if err := owner.Kill(); err != nil {
		return err
	}
	return lab.Clean(dir)
}

// empty tells whether a directory is empty or doesn't exist.
func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// owner is the supervisor of the lab in dir.
func owner(dir string) (id lab.ID, err error) {
	text, err := os.ReadFile(filepath.Join(dir, labFile))
	if err != nil {
		return id, err
	}
	return id, json.Unmarshal(text, &id)
}

// warn says which file systems hang, for some things on this machine will, too.
func warn(ctx context.Context) {
	hung, err := lab.Hung(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: warning:", err)
	}
	for _, mountpoint := range hung {
		fmt.Fprintf(os.Stderr, "lab: warning: the file system at %s doesn't answer\n", mountpoint)
	}
}
