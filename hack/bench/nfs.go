package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dvol/dvold/internal/host/guest"
)

// nfsModules are what the client of a guest is made of.
var nfsModules = []string{"net/sunrpc/sunrpc", "fs/nfs_common/grace", "fs/lockd/lockd", "fs/netfs/netfs", "fs/fscache/fscache", "fs/nfs_common/nfs_acl",
	"net/dns_resolver/dns_resolver", "fs/nfs/nfs", "fs/nfs/nfsv4"}

// nfsState is dvold's state directory in the guest.
const nfsState = "/tmp/nfs/state"

// nfs takes the measures of volumes on NFS, in a guest, which has a client.
func nfs(ctx context.Context, o options) (r results, err error) {
	missing := guest.Missing()
	if _, err := exec.LookPath("ganesha.nfsd"); err != nil && missing == "" {
		missing = "ganesha.nfsd"
	}
	if missing != "" {
		return r, fmt.Errorf("NFS can't run here: there is no %s", missing)
	}
	dir, err := os.MkdirTemp(o.dir, "guest")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) // nothing is mounted there
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	for name, program := range map[string]string{"bench": self, "dvold": o.dvold} {
		if err := copyProgram(program, filepath.Join(dir, name)); err != nil {
			return r, err
		}
	}
	fmt.Fprintln(os.Stderr, "measuring:", stageNFS)
	before, err := loadAverage()
	if err != nil {
		return r, err
	}
	// Without "--": the kernel would drop what follows.
	g := guest.Guest{Dir: dir, Memory: "3G", Load: nfsModules, Command: []string{guest.Mnt + "/bench", "-stage", stageNFS, "-state-dir", nfsState,
		guest.Mnt + "/dvold", "serve", "--host", "guest", "--state-dir", nfsState, "--config", nfsConfiguration}}
	got := g.Run(ctx)
	if got.Status != "0" {
		return r, fmt.Errorf("the guest ended with %q (%v): %s", got.Status, got.Err, got.Output[max(0, len(got.Output)-2000):])
	}
	lines := bytes.Split(bytes.TrimSpace(got.Output), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return r, fmt.Errorf("read what stage %s measured: %w", stageNFS, err)
	}
	after, err := loadAverage()
	r.Facts = append([]string{fmt.Sprintf("%d cores (%s), of which the guest has one", runtime.NumCPU(), processor())}, r.Facts...)
	r.Facts = append(r.Facts, "load at the start "+before, "load at the end "+after)
	return r, err
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// firstLine is the first line that a command writes.
func firstLine(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return line, err
}
