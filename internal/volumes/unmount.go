package volumes

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Unmount drops a use of the mount ID, which may be unknown, and unmounts the
// volume with the last one. The engine never repeats an Unmount that failed, so
// none of what may go wrong here is its business: the use is gone, and the
// sweeper goes on with the rest. The error is ErrUnavailable, when an earlier
// call for the volume hangs: then the use is still there.
func (m *Manager) Unmount(ctx context.Context, name, id string) error {
	if CheckName(name) != nil || checkMountID(id) != nil {
		return nil // can't have been mounted
	}
	return simply(ctx, m, name, func(ctx context.Context) error {
		m.unmount(ctx, name, id)
		return nil
	})
}

func (m *Manager) unmount(ctx context.Context, name, id string) {
	e, ok := m.entry(name)
	if !ok {
		return
	}
	if _, counted := e.Uses[id]; counted {
		e = e.drop(id)
		m.remember(e)
		if err := m.record(e); err != nil {
			m.log.Error("use was dropped but not written down", "volume", name, "err", err)
		}
		m.step("unmount: use dropped")
	}
	if len(e.Uses) > 0 {
		return
	}
	if err := m.detach(ctx, e); err != nil {
		m.log.Warn("volume will be unmounted later", "volume", name, "pool", e.Pool, "err", err)
		m.poke()
	}
}

// detach unmounts a volume, removes its mountpoint and forgets its entry. It
// returns ErrInUse, and leaves the mount, while a process in another mount
// namespace, that is a container, has the volume: its engine may have been
// replaced while the container ran on, and its counts with it.
func (m *Manager) detach(ctx context.Context, e entry) error {
	if err := m.unused(ctx, e); err != nil {
		return err
	}
	return m.dismount(ctx, e)
}

// dismount is detach for a volume that is known to be unused.
func (m *Manager) dismount(ctx context.Context, e entry) error {
	if e.Exclusive {
		return m.giveBack(ctx, e)
	}
	target := m.target(e.ID)
	if err := m.release(ctx, e, target); err != nil {
		return err
	}
	m.step("unmount: unmounted")
	if err := host.RemoveMountpoint(target); err != nil { // unless something is still mounted there
		return err
	}
	m.step("unmount: mountpoint removed")
	if err := m.journal.remove(e.Name); err != nil {
		return err
	}
	m.forget(e.Name)
	m.step("unmount: entry removed")
	m.letGo(ctx, e.Name)
	m.step("unmount: not held any more")
	return nil
}

// release has the backend undo its mount. Where the pool is no longer
// configured, a plain unmount must do. What was lost is not kept by the pool's other
// calls, which may all hang.
func (m *Manager) release(ctx context.Context, e entry, target string) error {
	p := m.pools[e.Pool]
	switch {
	case p == nil:
		return host.Unmount(target)
	case e.Lost != "":
		return p.Backend.Unmount(ctx, e.Handle, target)
	}
	return p.do(ctx, func(b backends.Backend) error { return b.Unmount(ctx, e.Handle, target) })
}

// unused returns ErrInUse, with some of their names, if processes in other
// mount namespaces have the volume.
func (m *Manager) unused(ctx context.Context, e entry) error {
	users, err := m.users(ctx, e)
	if err == nil && len(users) > 0 {
		err = fmt.Errorf("used by %s: %w", describe(users), ErrInUse)
	}
	return err
}

// users lists the processes in other mount namespaces that have the volume.
func (m *Manager) users(ctx context.Context, e entry) ([]host.User, error) {
	info, err := host.MountedAt(m.target(e.ID))
	if err != nil || info == nil {
		return nil, err
	}
	return host.OtherUsers(ctx, info)
}

// describe names up to three processes.
func describe(users []host.User) string {
	var names []string
	for _, u := range users {
		if len(names) == 3 {
			names = append(names, fmt.Sprintf("and %d more", len(users)-3))
			break
		}
		names = append(names, fmt.Sprintf("process %d (%s)", u.PID, u.Command))
	}
	return strings.Join(names, ", ")
}

// vacate makes sure before a removal that nobody on this host uses a volume.
// engine is the one that asks, or nil for an operator. An engine asks only when
// none of its containers refers to the volume, so what is recorded of it is out
// of date, as are the uses of engines that are gone. The kernel has the last
// word.
func (m *Manager) vacate(ctx context.Context, name string, engine *host.Process) error {
	e, ok := m.entry(name)
	if !ok {
		return nil
	}
	e = e.keep(func(u use) bool {
		return !(engine != nil && u.Engine == *engine) && !gone(u.Engine)
	})
	for id, u := range e.Uses {
		return fmt.Errorf("mounted since %s for engine process %d (mount ID %.12s): stop the containers that use it: %w",
			u.Since.Local().Format(time.DateTime), u.Engine.PID, id, ErrInUse)
	}
	if err := m.unused(ctx, e); err != nil {
		return err
	}
	if err := m.record(e); err != nil { // the intent
		return err
	}
	m.step("remove: stale uses dropped")
	return m.dismount(ctx, e)
}

// gone says whether an engine is known to have ended.
func gone(engine host.Process) bool {
	return engine != host.Process{} && !engine.Alive()
}
