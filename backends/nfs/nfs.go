// Package nfs keeps volumes as directories of an NFS export.
//
// In the export, or the directory of it that is the pool, lies what package
// local says; this package sees to it that there is a file system for that. All
// volumes of a host are bound out of one mount of the pool, but for those that are
// exclusive: they have a mount of their own each, which shares nothing with the
// other and can be ended with them.
//
// Mounts are the kernel's. They outlive dvold, and are found again in the mount
// table: nothing is written down.
//
// A server that is silent keeps whoever asks it waiting without end, in a sleep
// that nothing interrupts. So a server is asked for a word before each call that
// needs it (see Config.ask), and mount(2) can be left behind (see upkeep.Attempts). A
// call that a server falls silent under hangs until that is back; it goes on
// then.
package nfs

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/upkeep"
)

// Pool is an export, or a directory of one, that volumes are kept in.
type Pool struct {
	config Config
	others map[string]Config // pools beside this one, by name
	dir    string            // of the mountpoints
	log    *slog.Logger
	mounts *upkeep.Attempts // by mountpoint
	shared *shared
	upkeep *upkeep.Tender
}

var (
	_ backends.Backend   = (*Pool)(nil)
	_ backends.Stamper   = (*Pool)(nil)
	_ backends.Networked = (*Pool)(nil)
)

// tendInterval is how soon a mount that nobody uses is noticed.
const tendInterval = time.Second

// Open returns the pool of that name that c describes. Below runDir, which is
// lost in a reboot, lie its mountpoints. It leaves the storage alone, which may
// hang: later calls tell whether it is available. From then on until Close,
// mounts that nobody uses are taken away, also those of an earlier dvold.
func Open(c Config, name, runDir string, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Subdir = strings.TrimPrefix(c.Subdir, "/")
	dir := filepath.Join(runDir, "nfs", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir) // as mount tables do
	if err != nil {
		return nil, err
	}
	if c.isSoft() {
		log.Warn("option soft: when the server is silent for long, programs see errors, and data that they wrote may be lost", "server", c.Server)
	}
	looks, err := filepath.Glob(filepath.Join(dir, lookPrefix+"*"))
	if err != nil {
		return nil, err
	}
	p := &Pool{config: c, dir: dir, log: log, mounts: upkeep.NewAttempts(), upkeep: upkeep.New(log)}
	p.shared = newShared(p, filepath.Join(dir, sharedPrefix+c.fingerprint()))
	upkeep.Each(p.upkeep, tendInterval, p.points, p.tend)
	p.upkeep.Go(func(ctx context.Context) { p.clearLooks(ctx, looks) })
	return p, nil
}

// fingerprint is another for each configuration that is mounted differently.
func (c Config) fingerprint() string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q %q %q %d %q", c.source(), c.Version, c.Sec, c.Port, c.Options)
	return fmt.Sprintf("%08x", h.Sum32())
}

// Close ends what Open began, and leaves mounts and volumes as they are. It does
// not wait long for storage that hangs.
func (p *Pool) Close() error {
	p.upkeep.Close()
	return nil
}

// with calls f with what keeps volumes in the pool.
func (p *Pool) with(ctx context.Context, f func(*local.Pool) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	leave, err := p.shared.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d, err := p.at(p.shared.point)
	if err != nil {
		return err
	}
	err = f(d)
	if errors.Is(err, unix.ESTALE) {
		p.shared.outdated()
	}
	return err
}

// at is what keeps volumes below root, which is where the pool is mounted.
func (p *Pool) at(root string) (*local.Pool, error) {
	return local.OpenLimited(local.Config{Path: root, RequireMount: true, Shared: true}, unlimited{}, p.log)
}
