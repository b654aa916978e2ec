// Package volumes is dvold itself: it makes, mounts, removes and recovers
// volumes out of a Coordinator, which knows what exists, and Backends, which
// know where it lies.
//
// Three things are true at once and are kept in step here: the coordinator's
// records (which volumes exist), this host's journal (who uses what), and the
// kernel's mount table. Every change is written down as an intent, done, and
// written down as done, so that it can be taken up again after a crash at any
// line. Nothing slow happens under a mutex; calls for one volume wait for each
// other, calls for different volumes never do.
package volumes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
)

// Errors a Manager returns, wrapped with what it was doing. Backends and
// volumes mean the same by the first three.
var (
	ErrInvalid     = backends.ErrInvalid
	ErrInUse       = backends.ErrInUse
	ErrUnavailable = backends.ErrUnavailable
	ErrNotFound    = errors.New("no such volume")
	ErrMismatch    = errors.New("volume exists with other options")
	// ErrUnseen comes with ErrUnavailable: the coordinator can't be asked
	// about a volume that this host knows nothing of.
	ErrUnseen = errors.New("this host has not seen it before")
)

// Config is what a Manager is made of.
type Config struct {
	Host        string // this host's name in the cluster
	StateDir    string // outlives reboots: holds the host's identity, host.json
	RunDir      string // lost in a reboot: holds the journal, mounts.db, and the mountpoints, mnt/
	Pools       []Pool
	DefaultPool string // must be one of Pools

	// Guard is for the time in which no guard process runs beside dvold.
	Guard guard.Config
	// CutTime is how long after the end of its lease this host takes, at most,
	// to cut itself off from a volume, or reboots.
	CutTime time.Duration

	// Step, if not nil, is called after each step of what a Manager does, by a
	// name such as "create: intent written". Tests end the process in it.
	Step func(name string)
}

// Pool is a configured place that volumes are made in.
type Pool struct {
	Name     string
	Type     string // of its Backend, such as local
	Location string // where it lies, for people
	Backend  backends.Backend
	Shared   bool          // it is the same place on every host that has it
	TrashTTL time.Duration // how long removed data is kept; 0 means not at all
	Alone    bool          // its Backend mounts a volume on a file system of its own, if asked to
	// OneWriter says that only one host at a time can write to a volume: none is
	// shared, and what asks for nothing is exclusive.
	OneWriter bool

	Exclusive Exclusive
	Fencer    backends.Fencer // nil if nothing can cut another host off
}

// Manager is one host's share of the cluster's volumes. Its methods may be
// called concurrently. One that its caller's ctx ends goes on behind the
// scenes, if it must, until the storage answers, and then undoes itself.
type Manager struct {
	cfg     Config
	me      coordination.Host
	pools   map[string]*pool
	coord   coordination.Coordinator
	journal *journal
	known   *known
	log     *slog.Logger
	locks   locks // of volumes
	turns   locks // of turns
	reach   reach
	names   names

	calls      sync.WaitGroup // the calls under way, and what goes on in the background
	background context.Context
	stop       context.CancelFunc // ends the background
	wake       chan struct{}      // asks for a sweep now; holds one

	guard    *guard.Book
	cutter   *cut.Cutter
	counters Counters

	promising busy // volumes of which the records are told whether a guard sees to them

	unfinished atomic.Bool // intents of interrupted calls may be left
	fenced     atomic.Bool // others may have cut this host off, and it may be clean by now
	turnLeft   atomic.Bool // records may say that this host is at work
	purgeable  atomic.Bool // something in the trash may be due at once
	unsettled  atomic.Bool // the records may not say what this host holds and has

	recording sync.Mutex // held while an entry of the journal is changed, so that no loss is overwritten
	ordering  sync.Mutex // held while an order is made, likewise; within recording

	mu         sync.RWMutex // guards the fields below
	mounts     map[string]entry
	holdings   map[string]holding
	ownerships map[string]ownership
	kept       map[string]string // why volumes that were lost are not forgotten, as the log says
	cluster    cluster
	current    coordination.Session // nil while this host is not in the cluster,
	absent     error                // for this reason
	joined     bool                 // it was before
}

// Open reads the journal and brings it into line with the kernel's mount table,
// joins the cluster, then works in the background until Close. It asks nothing
// of the storage, which may hang, and does not wait long for a coordinator that
// is away. It fails if another machine of this name is in the cluster.
func Open(ctx context.Context, cfg Config, coord coordination.Coordinator, log *slog.Logger) (*Manager, error) {
	m := &Manager{
		cfg:        cfg,
		pools:      make(map[string]*pool),
		coord:      coord,
		log:        log,
		wake:       make(chan struct{}, 1),
		mounts:     make(map[string]entry),
		holdings:   make(map[string]holding),
		ownerships: make(map[string]ownership),
		kept:       make(map[string]string),
		cutter:     &cut.Cutter{Log: log},
	}
	for _, p := range cfg.Pools {
		m.pools[p.Name] = newPool(p)
	}
	if m.pools[cfg.DefaultPool] == nil {
		return nil, fmt.Errorf("default pool %q is not configured", cfg.DefaultPool)
	}
	if err := m.makeMountDir(); err != nil {
		return nil, fmt.Errorf("make the directory for mountpoints: %w", err)
	}
	var err error
	if m.cfg.RunDir, err = filepath.EvalSymlinks(cfg.RunDir); err != nil { // as mount tables do
		return nil, fmt.Errorf("run directory: %w", err)
	}
	boot, err := host.BootID()
	if err != nil {
		return nil, err
	}
	id, err := loadIdentity(filepath.Join(cfg.StateDir, "host.json"))
	if err != nil {
		return nil, err
	}
	m.me = coordination.Host{Name: cfg.Host, ID: id.HostID, Boot: boot}
	m.step("start: identity known")
	if err := m.loadCluster(); err != nil {
		return nil, err
	}
	if m.known, err = openKnown(filepath.Join(cfg.StateDir, "known.db")); err != nil {
		return nil, err
	}
	m.journal, err = openJournal(filepath.Join(cfg.RunDir, "mounts.db"))
	if err != nil {
		return nil, errors.Join(err, m.known.close())
	}
	if m.guard, err = guard.OpenBook(m.guardDir()); err != nil {
		return nil, errors.Join(err, m.journal.close(), m.known.close())
	}
	m.step("start: journal opened")
	if err := m.recover(boot); err != nil {
		return nil, errors.Join(err, m.journal.close(), m.known.close())
	}
	m.background, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.enter(ctx); err != nil {
		return nil, errors.Join(err, m.leave(ctx))
	}
	m.step("start: cluster joined")
	for _, work := range []func(){m.stay, m.follow, m.sweep, m.tend, m.attend, m.heed, m.standBy} {
		m.calls.Add(1)
		go work()
	}
	return m, nil
}

// Close ends the background work, waits for calls under way until ctx ends,
// and leaves the cluster. Volumes stay mounted.
func (m *Manager) Close(ctx context.Context) error {
	m.stop()
	done := make(chan struct{})
	go func() { m.calls.Wait(); close(done) }()
	var late error
	select {
	case <-done:
	case <-ctx.Done():
		// What hangs in the kernel can't be ended. Its intent is in the
		// journal, and the next start undoes it.
		late = errors.New("calls under way did not end in time")
	}
	return errors.Join(late, m.leave(ctx))
}

// leave ends the session and closes the files.
func (m *Manager) leave(ctx context.Context) error {
	m.stop()
	if session, err := m.session(); err == nil && len(m.exclusiveEntries()) > 0 {
		// Others would take this host for silent, and its volumes over, while
		// dvold is restarted.
		session.Abandon()
	} else if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTimeout)
		defer cancel()
		if err := session.Close(ctx); err != nil {
			m.log.Warn("the session was left to expire", "err", err)
		}
	}
	return errors.Join(m.journal.close(), m.known.close())
}

func (m *Manager) step(name string) {
	if m.cfg.Step != nil {
		m.cfg.Step(name)
	}
}

// Pools lists the configured pools by name.
func (m *Manager) Pools() []Pool {
	return slices.SortedFunc(slices.Values(m.cfg.Pools), func(a, b Pool) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// DefaultPool is the pool of a volume that names none.
func (m *Manager) DefaultPool() string { return m.cfg.DefaultPool }

// now is the time that leases are counted in.
func (m *Manager) now() time.Duration { return host.BootTime() }

func (m *Manager) guardDir() string { return filepath.Join(m.cfg.RunDir, "guard") }

func (m *Manager) mountDir() string { return filepath.Join(m.cfg.RunDir, "mnt") }

// makeMountDir makes it root's alone: by what is mounted there the users of this host would reach
// all that containers let their users read, and run as root what a container's root has
// made a program of root's (CVE-2021-41091).
func (m *Manager) makeMountDir() error {
	if err := os.MkdirAll(m.cfg.RunDir, 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(m.mountDir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(m.mountDir(), 0o700) // an earlier dvold's
}

// target is where a volume is mounted. It is named by the ID, not the name, so
// that a volume never meets the mount of a namesake removed before.
func (m *Manager) target(id string) string { return filepath.Join(m.mountDir(), id) }

// newID makes a volume's ID: its name, for people, and 48 random bits.
func newID(name string) string { return name + "." + newOp() }

// newOp tells one write of a record from another that is otherwise the same.
func newOp() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
