package cut

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/internal/hang"
)

// Remains returns what on this host still has v, for people, once dvold has
// unmounted it: processes that can write to it, one for each mount namespace
// that has it mounted for its processes; mounts; loop devices; and if it is
// Sole, the kernel itself. If there is nothing, the volume is proven gone, and
// has been synced if it was before.
//
// Nobody is killed. Copies of the mount in copies of the host's mount table are
// taken away, unless they are in use.
func (c *Cutter) Remains(ctx context.Context, v Volume) (left []string, err error) {
	v.Servers = nil // nothing is done about them
	r := newRun(c, v, new(ledger))
	late, cancel := later(ctx)
	defer cancel()
	left, err = hang.Call(late, &c.calls, "cut of volume "+v.ID, func() ([]string, error) {
		defer r.close(ctx)
		if left, err := r.remains(ctx, true); err != nil || len(left) == 0 {
			return left, err
		}
		return r.remains(ctx, false)
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("look for what remains of volume %s: %w", v.ID, err)
	}
	if len(left) == 0 {
		c.connections.forget(v.ID)
	}
	return left, nil
}

// remains takes one look. If it is to clear up, it takes copies of the mount
// away, which are in what it returns nevertheless.
func (r *run) remains(ctx context.Context, clear bool) (left []string, err error) {
	l, err := r.survey(ctx)
	defer r.leave(ctx, l)
	if err != nil || len(r.targets) == 0 {
		return nil, err
	}
	devices, err := loops()
	if err != nil {
		return nil, err
	}
	r.suspect(ctx, l, devices)
	met := make(map[string]bool)
	err = l.holders(ctx, func(h holder, _ dir) error {
		if h.space == "" || !met[h.space] {
			left = append(left, h.String())
		}
		met[h.space] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	var copies []*space
	for _, s := range l.shown() {
		for _, m := range s.shown {
			if s.victim == "" {
				left = append(left, "the mount at "+s.at(m.Mountpoint))
			}
		}
		if !s.home && s.victim == "" {
			copies = append(copies, s)
		}
	}
	if clear && len(copies) > 0 {
		_, err := r.unmount(ctx, copies)
		return left, err
	}
	more, err := r.verify(ctx, l, devices)
	return append(left, more...), err
}
