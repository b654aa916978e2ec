package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/dvol/dvold/backends/command"
	"github.com/dvol/dvold/internal/config"
	"github.com/dvol/dvold/internal/standing"
	"github.com/dvol/dvold/internal/volumes"
)

// withoutFence is what an operator can do about a pool that can't fence.
const withoutFence = "the pool has no fence: set exclusive.fence_command (docs/fencing.md)"

// settleExclusive returns what a pool does about its exclusive volumes. fences
// says that it can cut other hosts off, watchdog that one reboots this host if
// it doesn't cut itself off.
func settleExclusive(c config.Exclusive, fences, watchdog bool) (volumes.Exclusive, error) {
	e := volumes.Exclusive{
		Takeover: volumes.Takeover(c.Takeover), OnSessionLoss: standing.Policy(c.OnSessionLoss),
		MountWait: c.MountWait.Duration, Servers: prefixes(c.Servers),
	}
	if e.Takeover == "" {
		e.Takeover = volumes.TakeoverManual
		if fences {
			e.Takeover = volumes.TakeoverAuto
		}
	}
	if e.OnSessionLoss == "" {
		e.OnSessionLoss = standing.Cut
		if fences {
			e.OnSessionLoss = standing.Keep
		}
	}
	auto := e.Takeover == volumes.TakeoverAuto
	e.AcceptLease = auto && !fences && (c.AcceptLease || watchdog)
	switch {
	case c.AcceptLease && !auto:
		return e, fmt.Errorf("exclusive.accept_lease: it is about takeover: auto, and without a fence takeover is %s: set exclusive.takeover, too, or leave this out", e.Takeover)
	case auto && !fences && e.OnSessionLoss == standing.Keep:
		return e, errors.New("exclusive.on_session_loss: keep is not safe with takeover: auto, for " + withoutFence + ", or on_session_loss: cut, or takeover: manual")
	case auto && !fences && !e.AcceptLease:
		return e, errors.New("exclusive.takeover: auto is not safe, for " + withoutFence + ", or guard.watchdog, or accept_lease: true if leases alone will do, or takeover: manual")
	}
	return e, nil
}

// longestLeaseWait leaves a mount, which Docker waits for, time for the rest.
const longestLeaseWait = 90 * time.Second

// checkLease returns an error if a takeover by lease would take longer than a
// mount may.
func checkLease(cfg config.Config) error {
	ttl, cut := cfg.Coordination.LeaseTTL.Duration, cfg.Guard.CutTime.Duration
	if wait := volumes.LeaseWait(ttl, cut); wait > longestLeaseWait {
		return fmt.Errorf("exclusive.takeover: by lease it would take %v from when a host is known to be silent, and a mount has %v: set a shorter coordination.lease_ttl (%v) or guard.cut_time (%v)", wait, longestLeaseWait, ttl, cut)
	}
	return nil
}

func prefixes(networks []config.Network) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range networks {
		all = append(all, n.Prefix)
	}
	return all
}

// fenceCommand returns the command that fences instead of the pool's own means,
// or nil.
func fenceCommand(c config.Exclusive) (*command.Config, error) {
	if len(c.FenceCommand) == 0 {
		return nil, nil
	}
	fence := &command.Config{Argv: c.FenceCommand, Timeout: c.FenceTimeout.Duration, Covers: c.FenceCovers, Facts: c.FenceFacts}
	if err := fence.Validate(); err != nil {
		return nil, fmt.Errorf("exclusive.%w", err)
	}
	return fence, nil
}
