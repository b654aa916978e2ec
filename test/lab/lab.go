// Package lab runs test hosts: real Docker hosts on one machine.
//
// A [Host] has its own mount, PID, UTS, IPC and network namespace, its own
// /run, boot ID and disk, and in them a real dockerd and a real dvold. All of
// a host's processes live in its PID namespace, so that killing its first one
// ends the rest, and its mounts go with its mount namespace. Nothing of a host
// is left by [Host.Close]; and if the process that made it dies without, its
// directory and cgroups are, but no process and no mount.
//
// It needs root, dockerd, the docker command, bash, iproute2 and a static
// busybox; [Missing] tells what isn't there.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// busyBox is the program that images are made of.
const busyBox = "/bin/busybox"

// Missing says what a Host needs and this machine lacks, or is empty.
func Missing() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	for _, name := range []string{"bash", "ip", "mount", "dockerd", "docker", busyBox} {
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
