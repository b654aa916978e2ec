package lab

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dockerSocket = "/run/docker.sock"
	dockerLog    = "dockerd.log"
)

// StartDocker starts dockerd with additional arguments and waits until it
// answers. One that runs already is an error.
func (h *Host) StartDocker(ctx context.Context, args ...string) error {
	if h.docker != nil && !h.docker.ended() {
		return fmt.Errorf("start dockerd on %s: it runs", h.name)
	}
	argv := append([]string{"dockerd",
		"--config-file", h.Path("daemon.json"),
		"--data-root", h.Path("docker"),
		"--storage-driver", h.storageDriver(),
		"--exec-root", "/run/docker-exec",
		"--host", "unix://" + dockerSocket,
		"--pidfile", "/run/docker.pid",
		"--cgroup-parent", "/" + h.name,
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--bridge", "none", "--iptables=false", "--ip-masq=false",
		"--log-level", "warn",
	}, args...)
	// Without ctx: the daemon is to outlive it.
	cmd := h.command(context.WithoutCancel(ctx), argv...)
	var err error
	h.docker, err = startProcess(cmd, func() error { return h.start(cmd) }, h.Path(dockerLog))
	if err != nil {
		return fmt.Errorf("start dockerd on %s: %w", h.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := waitFor(ctx, h.docker, func() error { return h.ping(ctx) }); err != nil {
		return fmt.Errorf("start dockerd on %s: %w", h.name, err)
	}
	return nil
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

// ping asks the engine whether it is up.
func (h *Host) ping(ctx context.Context) error {
	return ask(ctx, h.Path("run/docker.sock"), http.MethodGet, "/_ping")
}

// StopDocker ends dockerd as an operator would.
func (h *Host) StopDocker() error {
	if err := h.docker.terminate(); err != nil {
		return fmt.Errorf("stop dockerd on %s: %w", h.name, err)
	}
	return nil
}

// KillDocker ends dockerd, and it alone, as a crash would; containers run on.
func (h *Host) KillDocker() error {
	if err := h.docker.kill(); err != nil {
		return fmt.Errorf("kill dockerd on %s: %w", h.name, err)
	}
	return nil
}

// Docker runs a docker command, as Exec does.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{"docker"}, args...)...)
}
