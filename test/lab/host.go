package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/dvol/dvold/internal/adminapi"
)

// Options adjust a Host.
type Options struct {
	// Dvold is the dvold binary, for StartDvold.
	Dvold string
	// Parent is the directory that the host's own is made in; empty means
	// the one for temporary files.
	Parent string
}

// Host is a test host. Its methods must not be called concurrently, except for
// those that run commands or read what the host has.
type Host struct {
	*Machine
	Engine  *Daemon // dockerd
	Driver  *Daemon // dvold
	Guard   *Daemon // dvold guard; nil unless the cluster is to have guards
	Agent   *Daemon // Consul's; nil if there are no Consul servers
	Storage *Daemon // sshfs; nil if there is no storage

	Admin *adminapi.Client // asks dvold on its admin socket, as its commands do

	dvold  string         // the binary
	clock  []string       // what dvold and the guard are started by; may be empty
	beat   string         // the binary; may be empty
	server *StorageServer // nil if there is none
	runs   atomic.Int64   // numbers containers that are run to their end
}

// newHost describes a host that is to run on a machine.
func newHost(m *Machine, dvold string) *Host {
	if dvold != "" {
		m.programs = filepath.Dir(dvold)
	}
	h := &Host{Machine: m, dvold: dvold, Admin: adminapi.NewClient(m.Path("run/dvol/admin.sock"))}
	h.Engine, h.Driver = newDocker(h), newDriver(h)
	m.daemons = []*Daemon{h.Engine, h.Driver}
	return h
}

// New boots a host that has no network, without dockerd and dvold. Close it,
// also if ctx ended.
func New(ctx context.Context, o Options) (*Host, error) {
	dir, err := os.MkdirTemp(o.Parent, "lab")
	if err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	name := filepath.Base(dir)
	h := newHost(&Machine{name: name, group: name, dir: dir}, o.Dvold)
	if err := h.prepare(""); err != nil {
		return nil, errors.Join(fmt.Errorf("make host %s: %w", h.name, err), h.Close())
	}
	if err := h.Boot(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// Reboot ends every process of the host at once, as Kill does, and boots it
// again: /run is empty, the boot ID is new, and no daemon is started.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.Kill(); err != nil {
		return err
	}
	return h.Boot(ctx)
}

// StartAll starts every daemon that the host is to have and that doesn't run,
// each after those that it needs, and makes the image. It is as the systemd
// units have it: dvold comes before dockerd, which is then told of the driver,
// or else a swarm would take the node for one without. Of a host that is fenced
// the storage is not mounted.
func (h *Host) StartAll(ctx context.Context) error {
	for _, d := range []*Daemon{h.Agent, h.Storage, h.Guard, h.Driver, h.Engine} {
		if d == nil || d.Running() || d == h.Driver && h.dvold == "" || d == h.Storage && h.server.Fenced(h.name) {
			continue
		}
		if err := d.Start(ctx); err != nil {
			return err
		}
	}
	if h.dvold != "" {
		if err := h.engine(ctx, http.MethodGet, "volumes", nil, nil); err != nil {
			return fmt.Errorf("announce dvold on %s: %w", h.name, err)
		}
	}
	return h.Image(ctx)
}

// Logs returns what the host's daemons have logged.
func (h *Host) Logs() string { return logs(h.daemons, make([]int64, len(h.daemons))) }

// logs returns what daemons have logged, each after so many bytes.
func logs(daemons []*Daemon, after []int64) string {
	var s strings.Builder
	for i, d := range daemons {
		s.WriteString(d.logged(after[i]))
	}
	return s.String()
}
