package lab

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const dockerSocket = "/run/docker.sock"

// newDocker describes the host's dockerd.
func newDocker(h *Host) *Daemon {
	argv := func(args []string) []string {
		return append([]string{"dockerd",
			"--config-file", h.Path("daemon.json"),
			"--data-root", h.Path("docker"),
			"--storage-driver", h.storageDriver(),
			"--exec-root", "/run/docker-exec",
			"--host", "unix://" + dockerSocket,
			"--pidfile", "/run/docker.pid",
			"--cgroup-parent", "/" + h.group,
			"--exec-opt", "native.cgroupdriver=cgroupfs",
			"--bridge", "none", "--iptables=false", "--ip-masq=false",
			"--log-level", "warn",
		}, args...)
	}
	answers := func(ctx context.Context) error {
		return ask(ctx, h.Path("run/docker.sock"), http.MethodGet, "/_ping")
	}
	return &Daemon{name: "dockerd", m: h.Machine, argv: argv, answers: answers, patience: 90 * time.Second}
}

// storageDriver is the best that works on the host's disk.
func (h *Host) storageDriver() string {
	var fs unix.Statfs_t
	if err := unix.Statfs(h.dir, &fs); err != nil || fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "vfs"
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil || !slices.Contains(strings.Fields(string(known)), "overlay") {
		return "vfs"
	}
	return "overlay2"
}

// StartDocker starts dockerd with additional arguments and waits until it
// answers. One that runs already is an error.
func (h *Host) StartDocker(ctx context.Context, args ...string) error {
	return h.Engine.Start(ctx, args...)
}

// StopDocker ends dockerd as an operator would.
func (h *Host) StopDocker() error { return h.Engine.Stop() }

// KillDocker ends dockerd, and it alone, as a crash would; containers run on.
func (h *Host) KillDocker() error { return h.Engine.Kill() }

// Docker runs a docker command, as Exec does.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{"docker"}, args...)...)
}
