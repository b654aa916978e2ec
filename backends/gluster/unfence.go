package gluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// Unfence takes the host's address out of the list, and no other, unless a later
// stay of the host was rejected since, or another host's fence, or the operator's
// own word, is about the same address. The host itself, which is whom it is for, then
// makes sure that the bricks let it in.
func (p FencingPool) Unfence(ctx context.Context, f backends.Fence) error {
	t, err := targetOf(f)
	if err == nil {
		err = p.unfence(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("let host %q, %s, into Gluster volume %s again: %w", f.Host, t.address, t.volume, err)
	}
	return nil
}

func (p FencingPool) unfence(ctx context.Context, t target) error {
	info, err := p.manage.info(ctx, t.volume)
	if r := (refused{}); errors.As(err, &r) && strings.Contains(r.says, "does not exist") {
		return nil // it was deleted, and the list with it
	}
	if err != nil {
		return err
	}
	if info.ID != t.id {
		return nil // likewise, and another has its name
	}
	now, ok := info.markOf(t.mark)
	if !ok || now.incarnation > t.mark.incarnation {
		return nil
	}
	if now.state != markLifted {
		if err := p.manage.run(ctx, nil, append([]string{"volume", "set", t.volume}, info.lift(now)...)...); err != nil {
			return err
		}
	}
	return p.comeIn(ctx, t)
}

// comeInTries is how often the servers are told the list before who asks has to try
// again later.
const comeInTries = 2

// comeIn returns nil once the bricks have let this host in, if it is the target. A
// server that was just about to come back may have missed that the list was changed,
// which is told to nobody but who is refused: it keeps what the others had before, and
// hands that to its brick. So it is told again.
func (p FencingPool) comeIn(ctx context.Context, t target) error {
	here, err := host.IsLocal(t.address)
	if err != nil || !here {
		return err
	}
	for range comeInTries {
		info, listed := p.manage.info(ctx, t.volume)
		if listed != nil {
			return listed
		}
		if slices.Contains(info.rejected(), t.address.String()) {
			return nil // by somebody else
		}
		if err = p.tryIn(ctx, t, info); err == nil {
			return nil
		}
		if err := p.manage.run(ctx, nil, "volume", "set", t.volume, rejectOption, listOf(info.rejected())); err != nil {
			return err
		}
	}
	return err
}

// comeInTime is how long a brick may take until this host is its client, as when it
// has just been started.
const comeInTime = 5 * time.Second

// tryIn starts a client that reaches the bricks from the address, and ends it again.
// One that a brick refuses ends by itself. A brick that does not have it for a client
// in time is down, or out of reach, which keeps nobody from using the others.
func (p FencingPool) tryIn(ctx context.Context, t target, info volumeInfo) error {
	s := p.specOf(t.volume, "")
	s.options = append(s.options, bindOption(t.address.String()))
	own := fuseclient.Own{Spec: s.client(), Key: "come-in-" + t.volume, Path: "."}
	c, err := p.clients.StartOwn(ctx, own)
	if err != nil {
		return err
	}
	without, err := p.awaitIn(ctx, c, t, info)
	if err == nil && len(without) > 0 {
		p.log.Warn("bricks that could not be tried may refuse this host when they are back", "gluster_volume", t.volume, "bricks", without, "address", t.address)
	}
	return errors.Join(err, p.clients.EndOwn(context.WithoutCancel(ctx), own.Key))
}

// awaitIn waits until all bricks have a client, for some time, and returns those that
// have not.
func (p FencingPool) awaitIn(ctx context.Context, c *fuseclient.Client, t target, info volumeInfo) (without []string, err error) {
	for began := time.Now(); ; pause(ctx, pendingPause) {
		seen, err := p.manage.seenClients(ctx, t.volume)
		if r := (refused{}); err != nil && !errors.As(err, &r) { // as of a brick that has just been started
			return nil, err
		}
		mine, err := c.Connections()
		if !c.Alive() {
			return nil, fmt.Errorf("a brick refuses this host: %w", backends.ErrUnavailable)
		}
		if err != nil {
			return nil, err
		}
		without = info.bricksWithout(mine, seen)
		if len(without) == 0 || time.Since(began) > comeInTime {
			return without, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("bricks %v don't say that %s is their client: %w: %w", without, t.address, backends.ErrUnavailable, ctx.Err())
		}
	}
}

// bricksWithout are the bricks of which no connection is known to them.
func (v volumeInfo) bricksWithout(mine []host.Connection, seen map[string][]netip.AddrPort) (without []string) {
	for _, b := range v.Bricks {
		if !slices.ContainsFunc(mine, func(c host.Connection) bool { return slices.Contains(seen[b.Name], c.Local) }) {
			without = append(without, b.Name)
		}
	}
	return without
}
