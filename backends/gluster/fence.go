package gluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// FencingPool is a Pool whose servers can be told to reject a host: by the option
// auth.reject of the Gluster volume, which has the bricks end the connections from
// an address and take no more of them.
//
// Such a fence cuts the address off from all of the Gluster volume. It is proven
// on the bricks, for glusterd says yes also where a brick has not heard of it
// (HAZARDS 3).
type FencingPool struct{ *Pool }

var (
	_ backends.Fencer = FencingPool{}
	_ backends.Serial = FencingPool{}
)

// Fencing returns the pool as one that fences, which takes management.
func (p *Pool) Fencing() FencingPool { return FencingPool{p} }

const rejectOption = "auth.reject"

// Facts of an identity.
const (
	factAddress = "address"
	factVolume  = "gluster_volume"
	factID      = "gluster_volume_id"
)

// domainPrefix begins the domains of these fences.
const domainPrefix = "gluster/"

// Identity is the address from which this host's client of the volume will reach
// the bricks, and the Gluster volume. It makes sure, once, that glusterd takes orders.
func (p FencingPool) Identity(ctx context.Context, handle string) (backends.Identity, error) {
	none := backends.Identity{}
	volume := p.config.Volume
	if isWhole(handle) {
		var err error
		if volume, _, err = wholeOf(handle); err != nil {
			return none, err
		}
	}
	info, err := p.recentInfo(ctx, volume)
	if err != nil {
		return none, err
	}
	source, err := p.source(ctx, info.servers())
	if err != nil {
		return none, err
	}
	if _, known := p.takesOrders.Load(info.ID); !known {
		if err := p.manage.checkWrites(ctx, volume); err != nil {
			return none, err
		}
		p.takesOrders.Store(info.ID, nil)
	}
	return backends.Identity{
		Domain: domainPrefix + info.ID + "/" + source.String(),
		Facts:  map[string]string{factAddress: source.String(), factVolume: volume, factID: info.ID},
	}, nil
}

// checkWrites returns an error unless glusterd would change an option: it refuses
// that to who is no peer (HAZARDS 6), but only once it is asked to. An option that
// does not exist is not changed by anybody.
func (m management) checkWrites(ctx context.Context, volume string) error {
	const nothing = "user.dvol-none"
	err := m.run(ctx, nil, "volume", "reset", volume, nothing)
	if r := (refused{}); errors.As(err, &r) && strings.Contains(r.says, nothing) {
		return nil
	}
	if err == nil { // somebody has set it
		return nil
	}
	return fmt.Errorf("the management of the pool must be able to change options: %w", err)
}

// Method is "auth.reject".
func (p FencingPool) Method() string { return rejectOption }

// Effect says what a reject does.
func (p FencingPool) Effect(f backends.Fence) string {
	return fmt.Sprintf("rejects host %q, %s, from all of Gluster volume %s, its shared volumes there too", f.Host, f.Identity.Facts[factAddress], f.Identity.Facts[factVolume])
}

// Turn is the Gluster volume: the rejected addresses are one list.
func (p FencingPool) Turn(f backends.Fence) string { return domainPrefix + f.Identity.Facts[factID] }

// target is what a fence is about.
type target struct {
	volume  string
	id      string // of the Gluster volume
	address netip.Addr
	mark    mark
}

func targetOf(f backends.Fence) (target, error) {
	facts := f.Identity.Facts
	address, err := netip.ParseAddr(facts[factAddress])
	if err != nil {
		return target{}, fmt.Errorf("host %q left no address: %w", f.Host, err)
	}
	m := mark{address: address.String(), host: f.Host, incarnation: f.Incarnation}
	t := target{facts[factVolume], facts[factID], address, m}
	if f.Identity.Domain != domainPrefix+t.id+"/"+address.String() || !volumePattern.MatchString(t.volume) {
		return target{}, fmt.Errorf("host %q left an identity that is not one of a Gluster volume: %q", f.Host, f.Identity.Domain)
	}
	return t, nil
}

// Fence rejects the host's address, and returns nil once every brick of which it
// takes one to accept a write is without it, and has carried out all that it read
// before.
func (p FencingPool) Fence(ctx context.Context, f backends.Fence) error {
	t, err := targetOf(f)
	if err == nil {
		err = p.fence(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("reject host %q, %s, from Gluster volume %s: %w", f.Host, t.address, t.volume, err)
	}
	return nil
}

func (p FencingPool) fence(ctx context.Context, t target) error {
	info, leave, err := p.prepareFence(ctx, t)
	if err != nil {
		return err
	}
	defer leave()
	if set := info.reject(t.mark); len(set) > 0 {
		if err := p.manage.run(ctx, nil, append([]string{"volume", "set", t.volume}, set...)...); err != nil {
			return err
		}
		p.takesOrders.Store(t.id, nil)
	}
	return p.prove(ctx, t, info)
}

// prove returns nil once the bricks are without the address, have carried out all that they
// had read of it, and glusterd still rejects it.
func (p FencingPool) prove(ctx context.Context, t target, info volumeInfo) error {
	if err := p.awaitGone(ctx, t, info); err != nil {
		return err
	}
	// Again: a brick that had not heard yet may have let it in anew, or somebody has
	// changed the list, which glusterd reads beside all that.
	listed := make(chan error, 1)
	go func() { listed <- p.checkRejected(ctx, t) }()
	err := p.awaitGone(ctx, t, info)
	if err == nil { // and not before it: what was read of it in a second stay counts, too
		err = p.manage.drain(ctx, t.volume)
	}
	return errors.Join(err, <-listed)
}

// prepareFence reads the Gluster volume, and at the same time makes this host one of
// its clients until leave is called, as it will be when the volume is its own: a brick
// without any client fails the question for its clients (10.3).
func (p FencingPool) prepareFence(ctx context.Context, t target) (info volumeInfo, leave func(), err error) {
	entered := make(chan error, 1)
	go func() {
		var err error
		_, leave, err = p.sharedOf(t.volume).Enter(ctx)
		entered <- err
	}()
	info, err = p.rejectable(ctx, t)
	failed := <-entered
	if err != nil && failed == nil {
		leave()
	}
	return info, leave, cmp.Or(err, failed)
}

// checkRejected returns an error unless glusterd says that the address is rejected.
func (p FencingPool) checkRejected(ctx context.Context, t target) error {
	info, err := p.manage.info(ctx, t.volume)
	if err == nil && !slices.Contains(info.rejected(), t.address.String()) {
		err = fmt.Errorf("%s of Gluster volume %s has been changed by somebody else meanwhile: it is %q", rejectOption, t.volume, info.option(rejectOption))
	}
	return err
}

// rejectable reads the Gluster volume, and returns an error if it is not the one
// that the host wrote to, or the reject would hit a server or this host.
func (p FencingPool) rejectable(ctx context.Context, t target) (volumeInfo, error) {
	info, err := p.manage.info(ctx, t.volume)
	if err != nil {
		return info, err
	}
	p.keepInfo(info)
	if info.ID != t.id {
		return info, fmt.Errorf("it is another one, %s, than the host wrote to, %s", info.ID, t.id)
	}
	local, err := host.IsLocal(t.address)
	if err != nil {
		return info, err
	}
	if local {
		return info, errors.New("the address is this host's own by now")
	}
	return info, nil
}

// checkTime is how long a brick may take to be one that can be checked, as when its
// glusterd has just been started.
const checkTime = 3 * time.Second

// goneTime is how long a brick may have a client that it no longer lets in: who asked for the
// fence is told of it while he still listens (docs/gluster.md#fence).
const goneTime = 45 * time.Second

// awaitGone waits until enough bricks are without the address.
func (p FencingPool) awaitGone(ctx context.Context, t target, info volumeInfo) error {
	var kept error // by the last look
	for began := time.Now(); ; {
		seen, err := p.manage.seenClients(ctx, t.volume)
		if r := (refused{}); errors.As(err, &r) && time.Since(began) < checkTime { // as of a brick that has just been started
			pause(ctx, pendingPause)
			continue
		}
		if err != nil && kept != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w: %w", kept, backends.ErrUnavailable, err)
		}
		if err != nil {
			return err
		}
		left, unchecked := info.check(seen, t.address)
		problem, err := p.unproven(ctx, t, info, unchecked)
		switch {
		case err != nil:
			return err
		case problem != nil && time.Since(began) > checkTime:
			return problem
		case problem == nil && left == "":
			return nil
		case problem == nil:
			kept = fmt.Errorf("brick %s still has it for a client; if it does for minutes, start that brick anew (docs/gluster.md)", left)
			problem = kept
		}
		if time.Since(began) > goneTime {
			return fmt.Errorf("%w: %w", problem, backends.ErrUnavailable)
		}
		pause(ctx, pendingPause)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w: %w", problem, backends.ErrUnavailable, err)
		}
	}
}

// unproven returns what is wrong if some bricks, which could not be checked, would do
// for a write.
func (p FencingPool) unproven(ctx context.Context, t target, info volumeInfo, unchecked []string) (problem, err error) {
	if len(unchecked) == 0 {
		return nil, nil
	}
	quorum, err := p.manage.quorum(ctx, t.volume)
	if err != nil {
		return nil, err
	}
	if brick := info.writable(unchecked, quorum); brick != "" {
		return fmt.Errorf("brick %s could not be checked, and would do for a write: start it, and its glusterd: %w", brick, backends.ErrUnavailable), nil
	}
	return nil, nil
}

// pause waits, at most until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// check returns a brick that has a client of that address, and the bricks of which
// it is not known.
func (v volumeInfo) check(seen map[string][]netip.AddrPort, address netip.Addr) (left string, unchecked []string) {
	for _, b := range v.Bricks {
		clients, ok := seen[b.Name]
		switch {
		case !ok:
			unchecked = append(unchecked, b.Name)
		case slices.ContainsFunc(clients, func(c netip.AddrPort) bool { return c.Addr() == address }):
			left = b.Name
		}
	}
	return left, unchecked
}

// writable returns one of some bricks if those, alone, would accept a write, or "".
func (v volumeInfo) writable(some []string, quorum bool) string {
	for bricks := range slices.Chunk(v.Bricks, v.group()) {
		count, last := 0, ""
		for _, b := range bricks {
			if slices.Contains(some, b.Name) {
				count++
				last = b.Name
			}
		}
		if count >= v.least(quorum) {
			return last
		}
	}
	return ""
}

// quorum tells whether clients write only to more than half of the replicas.
func (m management) quorum(ctx context.Context, volume string) (bool, error) {
	const option = "cluster.quorum-type"
	var answer struct {
		Values []string `xml:"volGetopts>Opt>Value"`
	}
	if err := m.run(ctx, &answer, "volume", "get", volume, option); err != nil {
		return false, err
	}
	return len(answer.Values) == 1 && strings.HasPrefix(answer.Values[0], "auto"), nil
}
