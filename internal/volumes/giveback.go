package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// giveBack is dismount for an exclusive volume: what was written is made
// durable, and only once it is proven that nothing of the volume is left on
// this host does the next owner get it. Until then its record says that it is
// being released, and who is in the way. umount(2) alone proves nothing: other
// mount namespaces may have copies of the mount. It may also be who works in one
// of them that it is refused for.
func (m *Manager) giveBack(ctx context.Context, e entry) error {
	target := m.target(e.ID)
	mounted, err := host.IsMountpoint(target)
	switch {
	case err != nil:
		return err
	case e.Lost != "":
		if outcome, ok := m.guard.Outcome(e.ID); !ok || outcome.Verified == 0 {
			return fmt.Errorf("it is being cut off from this host: %w", ErrInUse)
		}
		e.mounted = mounted
		m.remember(e)
		if err := m.disconnect(ctx, e); err != nil {
			return err
		}
	case mounted:
		var users []string
		if e.Mount != nil { // takes copies of the mount away, through which more could be written after the sync
			if users, err = m.cutter.Remains(ctx, *e.Mount); err != nil {
				return err
			}
		}
		err := m.sync(ctx, e, target)
		if errors.Is(err, unix.ENOTCONN) { // the process that served it has ended: this mount is dead for good
			return errors.Join(m.lose(e, "the client of its storage has ended"), ErrInUse)
		}
		if err != nil {
			return err
		}
		m.step("give back: synced")
		if err := m.release(ctx, e, target); err != nil {
			if errors.Is(err, ErrInUse) && len(users) > 0 {
				m.releasing(ctx, e, strings.Join(users, ", "))
			}
			return err
		}
		e.mounted = false
		m.remember(e)
	case e.mounted:
		return errors.Join(m.lose(e, behindBack), ErrInUse)
	default:
		if e.Mount != nil { // likewise, through which it would stay connected
			if _, err := m.cutter.Remains(ctx, *e.Mount); err != nil {
				return err
			}
		}
		if err := m.disconnect(ctx, e); err != nil {
			return err
		}
	}
	m.step("unmount: unmounted")
	if e.Lost == "" && e.Mount != nil {
		if err := m.proveGone(ctx, e); err != nil {
			return err
		}
	}
	if err := host.RemoveMountpoint(target); err != nil {
		return err
	}
	m.step("unmount: mountpoint removed")
	if err := m.journal.remove(e.Name); err != nil {
		return err
	}
	m.forget(e.Name)
	m.step("unmount: entry removed")
	m.ordering.Lock() // whoever gives an order looks whether there is an entry
	err = m.guard.Remove(e.ID)
	m.ordering.Unlock()
	if err != nil {
		m.log.Error("the guard was not told that a volume is gone", "volume", e.Name, "err", err)
	}
	m.letGoOwned(ctx, e)
	m.step("unmount: not held any more")
	return nil
}

// sync makes durable what was written to a volume. It may wait for the storage
// for as long as that takes.
func (m *Manager) sync(ctx context.Context, e entry, target string) error {
	sync := func(backends.Backend) error {
		dir, err := os.OpenFile(target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer dir.Close()
		return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
	}
	var err error
	if p := m.pools[e.Pool]; p != nil {
		err = p.do(ctx, sync)
	} else {
		err = sync(nil)
	}
	if err != nil {
		return fmt.Errorf("write to the storage what is left: %w", err)
	}
	return nil
}

// proveGone returns ErrInUse while anything on this host still has the volume.
// Bare copies of its mount are unmounted where they are.
func (m *Manager) proveGone(ctx context.Context, e entry) error {
	left, err := m.cutter.Remains(ctx, *e.Mount)
	if err != nil {
		return fmt.Errorf("make sure that nothing has it any more: %w", err)
	}
	if len(left) == 0 {
		return nil
	}
	problem := strings.Join(left, ", ")
	m.releasing(ctx, e, problem)
	return fmt.Errorf("unmounted, and still in use by %s: %w", problem, ErrInUse)
}

// releasing has the record say why this host has not let go of a volume yet.
func (m *Manager) releasing(ctx context.Context, e entry, problem string) {
	_, err := ask(context.WithoutCancel(ctx), m, func(ctx context.Context) (struct{}, error) {
		o, err := m.loadOwner(ctx, e.ID)
		if err != nil || !m.ofThisHost(o) || o.State == ownerFencing || o.State == ownerReleasing && o.Problem == problem {
			return struct{}{}, err
		}
		o.State, o.Problem = ownerReleasing, problem
		put, err := o.put()
		if err == nil {
			_, err = m.commit(ctx, put)
		}
		return struct{}{}, err
	})
	if err != nil {
		m.log.Debug("the records don't say why a volume is not let go of", "volume", e.Name, "err", err)
	}
}

// holdOn has the record say again that this host has a volume which it was about
// to let go of, and is to mount once more.
func (m *Manager) holdOn(ctx context.Context, session coordination.Session, id string) error {
	o, err := m.loadOwner(ctx, id)
	if err != nil || o.State != ownerReleasing || !m.ofThisHost(o) {
		return err
	}
	o.State, o.Problem = ownerHeld, ""
	put, err := o.put()
	if err == nil {
		_, err = m.commitIn(ctx, session, put)
	}
	if errors.Is(err, coordination.ErrConflict) {
		return unavailablef("its owner has changed just now: try again")
	}
	return err
}

// letGoOwned has the records say that nobody owns a volume that this host has
// none of any more. It does not wait long: what fails is done when the sweeper
// compares the records with the journal. The caller holds the volume's lock.
func (m *Manager) letGoOwned(ctx context.Context, e entry) {
	m.notOwned(e.Name)
	m.mu.Lock()
	delete(m.holdings, e.Name)
	m.mu.Unlock()
	free := owner.free
	if m.connects(e) && e.Identity == nil { // whom the record names is not this host
		free = owner.abandoned
	}
	_, err := ask(context.WithoutCancel(ctx), m, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.renounce(ctx, e.Name, e.ID, free)
	})
	if err != nil {
		m.log.Debug("the records say for a while that this host owns a volume", "volume", e.Name, "err", err)
		m.later(&m.unsettled)
	}
}

// renounce has the records say that this host neither owns nor holds a volume,
// of which it has nothing. Where another has taken it over that stays, and where
// an earlier stay of this host may still have it. Where another is about to take
// it over the host proves that it has nothing, and leaves the rest to that one:
// a fence may be under way, which the record must go on telling of. Otherwise it becomes
// what free makes of it.
func (m *Manager) renounce(ctx context.Context, name, id string, free func(owner) owner) error {
	o, err := m.loadOwner(ctx, id)
	if err != nil {
		return err
	}
	e, known := m.entry(name)
	if m.ofThisHost(o) && !m.provablyGone(o, e, known) {
		return nil
	}
	held, err := m.holdingOf(ctx, m.cfg.Host, name)
	if err != nil {
		return err
	}
	ops := held.delete(m.cfg.Host, name)
	switch {
	case m.ofThisHost(o) && o.State == ownerFencing:
		proof, err := m.vouchForItself(ctx, o)
		if err != nil {
			return err
		}
		ops = append(ops, proof...)
	case m.ofThisHost(o):
		put, err := free(o).put()
		if err != nil {
			return err
		}
		ops = append(ops, put)
	}
	if len(ops) == 0 {
		return nil
	}
	_, err = m.commit(ctx, ops...)
	if errors.Is(err, coordination.ErrConflict) {
		return unavailable(err)
	}
	return err
}

// vouchForItself are the operations that prove that this host, as the owner that
// is about to be replaced, has nothing of the volume any more.
func (m *Manager) vouchForItself(ctx context.Context, o owner) ([]coordination.Op, error) {
	session, err := m.session()
	if err != nil {
		return nil, err
	}
	own, err := m.loadProof(ctx, o, volumeDomain(o.Volume))
	if err != nil || own.Proven {
		return nil, err
	}
	put, err := own.prove(byItself, caller{m.cfg.Host, session.Incarnation()}).put(o.Incarnation)
	if err != nil {
		return nil, err
	}
	return []coordination.Op{put, coordination.Check(coordination.Record{Key: ownerKey(o.Volume), Version: o.version})}, nil
}
