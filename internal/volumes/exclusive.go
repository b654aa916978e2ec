package volumes

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/dvol/dvold/internal/standing"
)

// Takeover says who may take an exclusive volume over from a host that is
// silent.
type Takeover string

const (
	TakeoverAuto   Takeover = "auto"   // whoever wants to mount it
	TakeoverManual Takeover = "manual" // an operator: dvold volume release
	TakeoverNever  Takeover = "never"  // nobody: the host itself must give it up
)

// Exclusive is what a pool does about its exclusive volumes.
type Exclusive struct {
	Takeover      Takeover
	OnSessionLoss standing.Policy
	MountWait     time.Duration // for a live owner to let go
	AcceptLease   bool          // a takeover may rest on leases alone
	// Servers of the storage are what this host must not reach any more while
	// it cuts itself off.
	Servers []netip.Prefix
}

// terms are what a host promised about an exclusive volume when it became the
// owner. Whoever takes it over must hold to these, not to its own.
type terms struct {
	OnSessionLoss standing.Policy `json:"on_session_loss"`
	LeaseTTL      time.Duration   `json:"lease_ttl"`          // nanoseconds; 0 means that leases never end
	CutTime       time.Duration   `json:"cut_time"`           // nanoseconds after the lease until the cut is verified, or the host reboots
	Guarded       bool            `json:"guarded"`            // a guard sees to the cut
	Fence         *fenceTerms     `json:"fence,omitempty"`    // how to cut it off from outside
	Incapable     string          `json:"no_fence,omitempty"` // why there is no fence, although the pool has one
}

// byLease tells whether the host's silence alone proves something in the end.
func (t terms) byLease() bool {
	return t.OnSessionLoss == standing.Cut && t.Guarded && t.LeaseTTL > 0
}

func (t terms) leaseWait() time.Duration { return LeaseWait(t.LeaseTTL, t.CutTime) }

// LeaseWait is how long a host's key must have been free, without a change,
// until the host has cut itself off, by the taker's clock: docs/takeover.md says
// why. A takeover by lease takes that long, and must fit into a mount.
func LeaseWait(ttl, cutTime time.Duration) time.Duration {
	return ttl + cutTime + time.Second + ttl/10
}

// takeover is who may take a volume over here: the stricter of what the volume
// and its pool say; where this host lacks the pool, and p is nil, what the volume
// says, or "".
func (m *Manager) takeover(r record, p *pool) Takeover {
	var pools Takeover
	if p != nil {
		pools = p.Exclusive.Takeover
	}
	strictness := map[Takeover]int{TakeoverAuto: 1, TakeoverManual: 2, TakeoverNever: 3}
	own, err := parseOptions(r.Options)
	if err == nil && strictness[own.takeover] > strictness[pools] {
		return own.takeover
	}
	return pools
}

// mountWait is how long a mount waits for a live owner.
func (m *Manager) mountWait(r record, p *pool) time.Duration {
	if own, err := parseOptions(r.Options); err == nil && own.mountWait != nil {
		return *own.mountWait
	}
	return p.Exclusive.MountWait
}

func parseTakeover(value string) (Takeover, error) {
	switch t := Takeover(value); t {
	case TakeoverAuto, TakeoverManual, TakeoverNever:
		return t, nil
	}
	return "", fmt.Errorf("want %s, %s or %s", TakeoverAuto, TakeoverManual, TakeoverNever)
}

// maxMountWait leaves a mount time for what comes after the wait.
const maxMountWait = 90 * time.Second

func parseMountWait(value string) (*time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > maxMountWait {
		return nil, fmt.Errorf("want a time from 0s to %v, such as 30s", maxMountWait)
	}
	return &d, nil
}
