package cluster_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// watch has Docker answer on a host, again and again until the returned function
// is called: what shows has to come at once, whatever has become of Consul. One
// answer in ten may take longer, on a machine that has a lot to do.
func (h *host) watch() (stop func()) {
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		asked, late := 0, 0
		for {
			for _, args := range [][]string{{"ps", "-q"}, {"volume", "ls", "-q"}} {
				h.within(soon, "docker "+strings.Join(args, " "), func() error {
					began := time.Now()
					_, err := h.Docker(h.ctx, args...)
					if asked++; time.Since(began) > prompt {
						late++
					}
					return err
				})
			}
			select {
			case <-ended:
				if late > asked/10 {
					h.t.Errorf("%s: of %d answers of docker %d took longer than %v", h.Name(), asked, late, prompt)
				}
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	return func() {
		close(ended)
		watching.Wait()
	}
}

// wantUndisturbed checks that the writers of places have gone on since a moment,
// as the owners they were, without having been stopped and started again.
func (c *cluster) wantUndisturbed(h *host, since time.Duration, places ...place) {
	c.t.Helper()
	for _, p := range places {
		c.must(c.beatsOn(p, h, max(since, lab.SinceBoot())))
		h.eventually("owner of "+p.name, func() error {
			o, err := h.tryOwner(p.name)
			if err == nil && (o.Host != h.Name() || o.Epoch != 1 || o.State != "held") {
				err = fmt.Errorf("it is %+v", o)
			}
			return err
		})
		want(c.t, "starts of "+p.name, h.docker("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", p.name), "true 0")
		c.wantOneStart(p)
	}
}

// wantOneStart checks that one process alone has written to a place.
func (c *cluster) wantOneStart(p place) {
	c.t.Helper()
	beats, err := c.beatsOf(p.pool, p.name)
	if err != nil {
		c.t.Errorf("beats of %s: %v", p.name, err)
	}
	for i, b := range beats {
		if b.Seq != i+1 {
			c.t.Errorf("beat %d of %s is number %d of its process", i+1, p.name, b.Seq)
			return
		}
	}
}

// sessionOf is the ID of the session that a host is in the cluster by.
func (c *cluster) sessionOf(h *host) (string, error) {
	c.t.Helper()
	id, err := c.Servers()[0].SessionOf(c.t.Context(), h.Name())
	c.must(err)
	if id == "" {
		return "", fmt.Errorf("%s has no session", h.Name())
	}
	return id, nil
}

// destroySession ends a host's session as an operator can. It returns when.
func (c *cluster) destroySession(h *host) time.Duration {
	c.t.Helper()
	id, err := c.sessionOf(h)
	c.must(err)
	at := lab.SinceBoot()
	c.consul(c.Servers()[0], http.MethodPut, "session/destroy/"+id, nil)
	return at
}

// newSession waits until a host is in the cluster by another session.
func (c *cluster) newSession(h *host, old string) {
	c.t.Helper()
	h.eventually("a session of "+h.Name(), func() error {
		id, err := c.sessionOf(h)
		if err == nil && id == old {
			err = errors.New("it is the old one")
		}
		return err
	})
}

// Whatever becomes of Consul, a writer is stopped only where its lease is over
// and somebody might rely on that. What new there is to be had is refused, with
// the reason.
func TestConsulFailsUnderWriters(t *testing.T) {
	c := ownTakeoverCluster(t, 2, quorum, nil)
	h1, h2, all := c.h(1), c.h(2), c.Servers()
	fenced, leased := placeOf("fenced", h1), placeOf("shared", h1)
	c.must(h1.writes(c, "fenced", "shared"))
	h1.createExclusive("fenced", "new")
	h2.createExclusive("shared", "new-lease")
	stops := []func(){h1.watch(), h2.watch()}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()

	// A new leader is there long before a lease is over.
	leader, err := c.Leader(h1.ctx)
	h1.must(err)
	h1.must(leader.Kill())
	c.h(2).eventually("a new leader", func() error {
		_, err := c.Leader(h2.ctx)
		return err
	})
	h1.must(leader.Boot(h1.ctx))
	h1.must(leader.Consul.Start(h1.ctx))
	c.wantUndisturbed(h1, 0, fenced, leased)

	// So it is if all servers are restarted.
	began := time.Now()
	for _, s := range all {
		h1.must(s.Consul.Kill())
	}
	h1.must(c.StartConsul(h1.ctx))
	if took := time.Since(began); took > lease-lease/5 { // which is how old a renewal may be
		t.Fatalf("the restart of Consul took %v: this machine is too slow to tell anything", took)
	}
	c.wantUndisturbed(h1, 0, fenced, leased)

	// A session that was destroyed is made up for before the lease is over, and
	// so is one that a snapshot doesn't know, and an owner by that.
	snapshot := c.snapshot()
	for _, loss := range []struct {
		what string
		of   func()
	}{
		{"session destroyed", func() { c.destroySession(h1) }},
		{"snapshot restored", func() { c.restore(snapshot) }},
	} {
		old, err := c.sessionOf(h1)
		c.must(err)
		at := lab.SinceBoot()
		loss.of()
		c.newSession(h1, old)
		if took := lab.SinceBoot() - at; took > lease {
			t.Errorf("%s: h1 came back %v later", loss.what, took)
		}
		c.wantUndisturbed(h1, at+lease, fenced, leased)
	}

	// Without a quorum the lease ends, and with it whoever has nothing else.
	at := lab.SinceBoot()
	for _, s := range all[1:] {
		h1.must(s.Kill())
	}
	h1.stopped(leased.name)
	for lab.SinceBoot() < at+quorumless() {
		h1.fails("mount of a new volume", h1.tryBeat("new", "new"), `volume "new"`, "coordinator")
		h2.fails("mount of a new volume", h2.tryBeat("new-lease", "new-lease"), `volume "new-lease"`, "coordinator")
		h2.fails("mount of what another has", h2.tryBeat(fenced.name, fenced.name), fenced.name, "coordinator")
		h1.removeContainer("new")
		h2.removeContainer("new-lease", fenced.name)
	}
	c.must(c.beatsOn(fenced, h1, lab.SinceBoot()))
	for _, s := range all[1:] {
		h1.must(s.Boot(h1.ctx))
	}
	h1.must(c.StartConsul(h1.ctx))
	c.wantUndisturbed(h1, 0, fenced)
	c.wantWriterStopped(leased, h1, at)
	h1.wantReboots(0)
	h2.takeOver(leased.name, leased.name, lab.SinceBoot(), patience) // it is nobody's: h1 has verified its end
	c.must(c.beatsOn(leased, h2, 0))
	h2.wantOwner(leased.name, "h2", 2)

	c.wantOneWriter(fenced.pool, fenced.name, "h1")
	c.wantOneWriter(leased.pool, leased.name, "h1", "h2")
	h1.wantReboots(0)
	h2.wantReboots(0)
}
