package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

// number is that of host hN.
func number(h *lab.Host) int { return int(h.Name()[1] - '0') }

// hosts does something with all hosts at once.
func (r *run) hosts(do func(*lab.Host) error) error {
	errs := make([]error, len(r.Hosts()))
	var all sync.WaitGroup
	for i, h := range r.Hosts() {
		all.Go(func() { errs[i] = do(h) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// hit breaks what a round breaks: hosts first, and then what all of them need.
func (r *run) hit(x history.Round) error {
	err := r.hosts(func(h *lab.Host) error {
		switch x.Hosts[number(h)] {
		case history.KillHost:
			return h.Kill()
		case history.FreezeHost, history.StallHost:
			return h.Freeze()
		case history.CutConsul:
			return h.Cut(r.ctx, lab.Consul)
		case history.CutStorage:
			return h.Cut(r.ctx, lab.Storage)
		case history.CutAll:
			return h.Cut(r.ctx, lab.All)
		case history.KillDvold:
			return h.KillDvold()
		case history.FreezeDvold:
			return h.FreezeDvold()
		case history.CutFrozen:
			return errors.Join(h.FreezeDvold(), h.Cut(r.ctx, lab.Consul))
		case history.KillGuard:
			return h.Guard.Kill()
		case history.EndSession:
			return r.endSession(h)
		case history.CutForgot:
			return errors.Join(h.Cut(r.ctx, lab.Consul), r.endSession(h))
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch x.Cluster {
	case history.KillLeader, history.FreezeLeader:
		var leader *lab.Server
		err := r.eventually(func() (err error) { leader, err = r.Leader(r.ctx); return err })
		if err != nil || x.Cluster == history.KillLeader {
			return errors.Join(err, leader.Kill())
		}
		return leader.Freeze()
	case history.StartConsul:
		for _, s := range r.Servers() {
			if err := s.Consul.Kill(); err != nil {
				return err
			}
		}
		return r.StartServers(r.ctx) // a host may have been killed
	case history.StopStorage:
		return r.storage().Freeze()
	}
	return nil
}

// storage is a machine that the storage can be without for a while, or, if there is
// but one, not.
func (r *run) storage() *lab.Machine {
	if g := r.Gluster(); g != nil {
		return g.Node(3).Machine
	}
	return r.Storage().Machine
}

// hold lets a round's faults last. Who only stalls goes on before.
func (r *run) hold(x history.Round) error {
	const stall = lease/2 - time.Second
	first := min(x.Hold, stall)
	time.Sleep(first)
	err := r.hosts(func(h *lab.Host) error {
		if x.Hosts[number(h)] != history.StallHost {
			return nil
		}
		return h.Thaw()
	})
	time.Sleep(x.Hold - first)
	return err
}

// mend undoes what was done to machines, networks and daemons, and starts what has
// ended, also by itself.
func (r *run) mend() error {
	for _, s := range r.Servers() {
		if !s.Up() {
			if err := s.Boot(r.ctx); err != nil {
				return err
			}
		} else if err := s.Thaw(); err != nil {
			return err
		}
	}
	if err := r.thawStorage(); err != nil {
		return err
	}
	err := r.eventually(func() error { // a guard may end a host just then
		if err := r.hosts(r.rouse); err != nil {
			return err
		}
		return r.StartConsul(r.ctx)
	})
	if err != nil {
		return err
	}
	return r.hosts(func(h *lab.Host) error {
		return r.eventually(func() error {
			if !h.Up() { // its guard may have ended it just now
				if err := h.Boot(r.ctx); err != nil {
					return err
				}
			}
			if h.Agent.Running() {
				if err := h.Rejoin(r.ctx); err != nil {
					return err
				}
			}
			return h.StartAll(r.ctx)
		})
	})
}

func (r *run) thawStorage() error {
	if r.Ceph() != nil {
		return nil
	}
	return r.storage().Thaw()
}

// rouse has a host on the network, up, and nothing of it frozen.
func (r *run) rouse(h *lab.Host) error {
	if err := h.Heal(r.ctx); err != nil {
		return err
	}
	if !h.Up() {
		return h.Boot(r.ctx)
	}
	if err := h.Thaw(); err != nil {
		return err
	}
	for _, d := range h.Daemons() {
		if d.Frozen() {
			if err := d.Thaw(); err != nil {
				return err
			}
		}
	}
	return nil
}

// well waits until each host is clean, so that nothing is fenced, and has its
// storage, and until Consul can do without a server again: it has those removed that are
// dead, and they are no voters at once when they are back.
func (r *run) well() error {
	err := r.eventually(func() error {
		voters, err := r.voters()
		if err == nil && voters < len(r.Servers()) {
			err = fmt.Errorf("%d of %d servers of Consul are voters", voters, len(r.Servers()))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("Consul is not whole within %v: %w", patience, err)
	}
	return r.hosts(func(h *lab.Host) error {
		err := r.eventually(func() error {
			proofs, err := r.keys("fences/" + h.Name() + "/")
			switch {
			case err != nil:
				return err
			case len(proofs) > 0:
				return fmt.Errorf("there is a proof against it: %v", proofs)
			case r.Storage() != nil && r.Storage().Fenced(h.Name()):
				return errors.New("it is fenced")
			case r.Storage() == nil || r.reachesStorage(h):
				return nil
			}
			return h.RemountStorage(r.ctx) // what it had mounted when it was fenced is dead
		})
		if err != nil {
			return fmt.Errorf("%s is not clean within %v: %w", h.Name(), patience, err)
		}
		return nil
	})
}

// reachesStorage tells whether a host's storage is mounted, and answers.
func (r *run) reachesStorage(h *lab.Host) bool {
	if !h.Storage.Running() {
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx, 3*time.Second)
	defer cancel()
	_, err := h.Exec(ctx, "stat", "/dfs/pool")
	return err == nil
}

// voters is how many servers of Consul take part in its elections.
func (r *run) voters() (n int, err error) {
	err = r.consul(func(ctx context.Context, s *lab.Server) error {
		text, err := s.AskConsul(ctx, http.MethodGet, "operator/raft/configuration", nil)
		if err != nil {
			return err
		}
		var raft struct{ Servers []struct{ Voter bool } }
		if err := json.Unmarshal(text, &raft); err != nil {
			return err
		}
		for _, server := range raft.Servers {
			if server.Voter {
				n++
			}
		}
		return nil
	})
	return n, err
}

// keys are those of the records whose keys begin with a prefix.
func (r *run) keys(prefix string) (keys []string, err error) {
	err = r.consul(func(ctx context.Context, s *lab.Server) error {
		keys, err = s.RecordKeys(ctx, prefix)
		return err
	})
	return keys, err
}

// endSession destroys the session that a host is in the cluster by, as an operator
// can. One that is in none has none to lose.
func (r *run) endSession(h *lab.Host) error {
	return r.eventually(func() error {
		return r.consul(func(ctx context.Context, s *lab.Server) error {
			session, err := s.SessionOf(ctx, h.Name())
			if err != nil || session == "" {
				return err
			}
			_, err = s.AskConsul(ctx, http.MethodPut, "session/destroy/"+session, nil)
			return err
		})
	})
}

// consul asks a server that is well.
func (r *run) consul(ask func(context.Context, *lab.Server) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	for _, s := range r.Servers() {
		if s.Consul.Running() && !s.Frozen() {
			return ask(ctx, s)
		}
	}
	return errors.New("no server of Consul is well")
}
