// Package migrate brings volumes of Docker's own local driver to dvol.
//
// The original is a directory, NAME/_data below Docker's volumes/. Copying
// leaves it as it is; moving renames it, and so can be undone. Neither touches
// what Docker itself knows of it, and neither works on data that is in use.
package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/volumes"
)

// lateTimeout bounds each of the last steps, which are also done for a caller
// who has left.
const lateTimeout = time.Minute

// Request says what to migrate.
type Request struct {
	Name       string // of the volume, in Docker and in dvol
	DockerRoot string // Docker's data root
	Pool       string // to migrate to; empty means the default pool
	Size       string // of the volume, as of one that is created; empty means the pool's, or none
	Move       bool   // instead of copying
}

// Result is what came of it.
type Result struct {
	Name  string `json:"name"`
	ID    string `json:"id"` // empty if the volume could not be looked at any more
	Pool  string `json:"pool"`
	Moved bool   `json:"moved"`
	Files int64  `json:"files"` // copied: files of all kinds, directories included
	Bytes int64  `json:"bytes"` // copied: data in them, without holes
}

// Migrator migrates to the volumes of one host. It may be used concurrently.
type Migrator struct {
	volumes *volumes.Manager
	log     *slog.Logger
	moving  sync.Map          // names of volumes that are being moved, or moved back
	atStep  func(step string) // for tests; may be nil
}

// New makes a Migrator.
func New(v *volumes.Manager, log *slog.Logger) *Migrator { return &Migrator{volumes: v, log: log} }

func (m *Migrator) step(name string) {
	if m.atStep != nil {
		m.atStep(name)
	}
}

// Migrate makes a volume of the same name out of a volume of Docker's local
// driver. It returns volumes.ErrNotFound if there is none, ErrInvalid for one
// that is not a plain directory, ErrInUse while somebody uses it or if it
// changes meanwhile, or ErrExists if dvol has a volume of that name, unless that
// has its moved data already. After an error the original is as it was, or the
// error says where its data is, and dvol's volume does not exist; but of a copy it
// may, if the answer to its last write was lost. What a crash left, a repeat
// clears or finishes.
func (m *Migrator) Migrate(ctx context.Context, r Request) (Result, error) {
	result, err := m.migrate(ctx, r)
	if err != nil {
		return Result{}, fmt.Errorf("migrate %q: %w", r.Name, err)
	}
	// It was migrated, whatever comes now: the caller may have left, or somebody
	// have removed the volume.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lateTimeout)
	defer cancel()
	v, err := m.volumes.Get(ctx, r.Name)
	if err != nil {
		m.log.Warn("volume was migrated, but can't be looked at", "volume", r.Name, "err", err)
	}
	result.Name, result.ID, result.Pool = r.Name, v.ID, cmp.Or(v.Pool, r.Pool, m.volumes.DefaultPool())
	m.log.Info("volume migrated", "volume", result.Name, "pool", result.Pool, "id", result.ID, "moved", r.Move, "files", result.Files, "bytes", result.Bytes)
	return result, nil
}

func (m *Migrator) migrate(ctx context.Context, r Request) (Result, error) {
	if r.Move {
		return Result{Moved: true}, m.move(ctx, r)
	}
	return m.copy(ctx, r)
}

// checkFree returns ErrExists if dvol has a volume of that name.
func (m *Migrator) checkFree(ctx context.Context, name string) error {
	_, err := m.volumes.Get(ctx, name)
	return taken(err)
}

// taken is what the error of a Get says of the name: nil if it is free, ErrExists if not.
func taken(err error) error {
	switch {
	case err == nil:
		return fmt.Errorf("in dvol: %w; it was left alone", volumes.ErrExists)
	case errors.Is(err, volumes.ErrNotFound):
		return nil
	}
	return err
}

func (m *Migrator) copy(ctx context.Context, r Request) (Result, error) {
	if err := m.checkFree(ctx, r.Name); err != nil {
		return Result{}, err
	}
	from, err := openLocal(r.DockerRoot, r.Name)
	if err != nil {
		return Result{}, err
	}
	defer from.Close()
	if err := checkUnused(ctx, from); err != nil {
		return Result{}, err
	}
	options := map[string]string{}
	if r.Pool != "" {
		options["pool"] = r.Pool
	}
	if r.Size != "" {
		options["size"] = r.Size
	}
	var copied Result
	m.step("copy: looked at")
	err = m.volumes.Import(ctx, r.Name, options, func(ctx context.Context, dir string) error {
		copied, err = m.transfer(ctx, from, dir)
		return err
	})
	return copied, err
}

// Local describes a volume of Docker's local driver.
type Local struct {
	Name      string `json:"name"`
	Path      string `json:"path"`      // of its data
	Anonymous bool   `json:"anonymous"` // Docker made the name up
	Exists    bool   `json:"exists"`    // dvol has a volume of that name
	Problem   string `json:"problem"`   // why it can't be migrated now; empty if it can
}

// List describes the volumes of Docker's local driver, ordered by name.
func (m *Migrator) List(ctx context.Context, dockerRoot string) ([]Local, error) {
	names, err := localNames(dockerRoot)
	if err != nil {
		return nil, err
	}
	all := make([]Local, 0, len(names))
	for _, name := range names {
		l := Local{Name: name, Path: localPath(dockerRoot, name), Anonymous: isAnonymous(name)}
		_, err := m.volumes.Get(ctx, name)
		switch {
		case err == nil:
			l.Exists = true
			l.Problem = "in dvol: " + volumes.ErrExists.Error()
		case !errors.Is(err, volumes.ErrNotFound):
			return nil, err
		default:
			err = m.problem(ctx, dockerRoot, name)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				l.Problem = err.Error()
			}
		}
		all = append(all, l)
	}
	return all, nil
}

func (m *Migrator) problem(ctx context.Context, dockerRoot, name string) error {
	if err := volumes.CheckName(name); err != nil {
		return err
	}
	from, err := openLocal(dockerRoot, name)
	if err != nil {
		return err
	}
	defer from.Close()
	return checkUnused(ctx, from)
}
