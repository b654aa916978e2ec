package volumes

import (
	"context"
	"errors"
	"fmt"
)

// ErrExists means that there is a volume of that name, which was left alone.
var ErrExists = errors.New("volume exists already")

// filler puts data into the directory dir, and leaves it durable.
type filler func(ctx context.Context, dir string) error

// Import makes a volume as Create does, but has fill put data into it first,
// in the directory dir. Nobody sees the volume before fill has returned nil and
// left its data durable. After an error, or a crash, nothing of it is left, at
// the latest when the sweeper is through. Import returns what Create does, or
// ErrExists; its caller also waits for the undoing.
func (m *Manager) Import(ctx context.Context, name string, options map[string]string, fill filler) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s, err := parseOptions(options)
	if err == nil && s.adopt != "" {
		err = fmt.Errorf("adopt: what is adopted can't be filled: %w", ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	release, err := m.locks.acquire(ctx, name)
	if err != nil {
		return unavailablef("volume %q is busy, an earlier call for it has not ended: %w", name, err)
	}
	_, err = callLocked(context.WithoutCancel(ctx), m, name, release, func(context.Context) (struct{}, func(context.Context), error) {
		return struct{}{}, nil, m.make(ctx, name, options, s, fill)
	})
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return nil
}

// fill mounts a volume that is being made for as long as fill runs. The
// journal has it as a mount without uses, which is undone after a crash.
func (m *Manager) fill(ctx context.Context, p *pool, r record, fill filler) (err error) {
	if err := m.expel(ctx, r.Name, r.ID); err != nil {
		return err
	}
	e := entry{Name: r.Name, ID: r.ID, Pool: r.Pool, Handle: r.Handle}
	if err := m.record(e); err != nil {
		return err
	}
	m.step("import: mount intended")
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if late := m.detach(ctx, e); late != nil {
			err = errors.Join(err, late)
		}
	}()
	if err := m.attach(ctx, p, e, AccessShared); err != nil {
		return fmt.Errorf("pool %q: %w", r.Pool, err)
	}
	m.step("import: mounted")
	return fill(ctx, m.target(r.ID))
}
