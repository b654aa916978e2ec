// Package lab runs real Docker hosts, and clusters of them, on one machine.
//
// A [Machine] has its own mount, PID, UTS, IPC and network namespace, its own
// /run, /etc, boot ID and disk. All of its processes live in its PID namespace,
// so that killing its first one ends the rest, and its mounts go with its mount
// namespace. A [Host] is a machine with a real dockerd and a real dvold; a
// [Cluster] is hosts and Consul servers on a network that is theirs alone, and
// if wanted a [StorageServer] whose files they all have mounted, or nodes of
// [Gluster] or [Ceph]. A [Disk] is a block device for one host or several. Nothing is left by
// Close; if the process that made them dies without, no process and no mount is,
// and [Clean] removes the rest.
//
// It needs root, dockerd, the docker command, bash, iproute2, iptables and a
// static busybox; [Missing] tells what isn't there. Storage, GlusterFS and
// Ceph need more, which [MissingStorage], [MissingGluster] and [MissingCeph] tell,
// and a Disk mkfs.ext4.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// busyBox is the program that images are made of.
const busyBox = "/bin/busybox"

// Missing says what a Host or a Cluster needs and this machine lacks, or is
// empty.
func Missing() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	for _, name := range []string{"bash", "ip", "iptables-restore", "mount", "dockerd", "docker", busyBox} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	return ""
}

// tail returns the end of a log, for error messages.
func tail(file string) string {
	const lines = 15
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Sprint(err)
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// each calls do for all things at once and returns what failed.
func each[T any](things []T, do func(T) error) error {
	errs := make([]error, len(things))
	var all sync.WaitGroup
	for i, thing := range things {
		all.Go(func() { errs[i] = do(thing) })
	}
	all.Wait()
	return errors.Join(errs...)
}
