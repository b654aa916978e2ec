package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// outage is a time without Consul on a host, as its containers see it.
type outage struct {
	*host
	c      *cluster
	prefix string // of the names of its volumes and containers
}

// newOutage prepares a host for the worst.
func newOutage(c *cluster, h *host, prefix string) outage {
	c.t.Helper()
	o := outage{h, c, prefix}
	for _, name := range []string{"known", "late"} {
		h.docker("volume", "create", "-d", "dvol", "--label", "team="+name, prefix+name)
	}
	h.start(prefix+"runs", beat, prefix+"runs:/data")
	h.start(prefix+"stops", idle, prefix+"stops:/data")
	c.wantBeating(prefix + "runs")
	return o
}

// What Docker's commands may take meanwhile, which would wait for two minutes for a
// dvold that hangs. The first to meet the silence waits
// for a second; the rest is this machine, which has a lot to do.
const (
	prompt = 10 * time.Second // what shows
	soon   = 20 * time.Second // what changes
)

// endure checks all that is promised for the time without Consul. It may be
// called again.
func (o outage) endure() {
	o.t.Helper()
	o.within(prompt, "docker volume ls", func() error {
		out, err := o.Docker(o.ctx, "volume", "ls", "-q")
		for _, name := range []string{"known", "late", "runs", "stops"} {
			if err == nil && !strings.Contains(out, o.prefix+name) {
				err = fmt.Errorf("%s%s is missing in %s", o.prefix, name, out)
			}
		}
		return err
	})
	o.within(prompt, "docker ps", func() error {
		out, err := o.Docker(o.ctx, "ps", "--format", "{{.Names}}")
		if err == nil && !strings.Contains(out, o.prefix+"runs") {
			err = errors.New(out)
		}
		return err
	})
	o.within(prompt, "docker volume inspect", func() error {
		out, err := o.Docker(o.ctx, "volume", "inspect", o.prefix+"known", "--format", `{{index .Labels "team"}} {{.Status.degraded}}`)
		if err == nil && !strings.HasPrefix(out, "known the coordinator is away") {
			err = errors.New(out)
		}
		return err
	})
	o.within(soon, "docker run with a known volume", func() error {
		_, err := o.trySh(o.prefix+"known", "echo 1 >/data/file")
		return err
	})
	o.refuses("new" + fmt.Sprint(time.Now().UnixNano()))
	o.c.wantBeating(o.prefix + "runs")
}

// refuses checks that nothing is created, and why is said.
func (o outage) refuses(name string) {
	o.t.Helper()
	o.within(soon, "docker volume create", func() error {
		_, err := o.Docker(o.ctx, "volume", "create", "-d", "dvol", o.prefix+name)
		o.fails("docker volume create", err, o.prefix+name, "coordinator")
		return nil
	})
	o.within(soon, "docker volume rm", func() error {
		_, err := o.Docker(o.ctx, "volume", "rm", o.prefix+"late")
		o.fails("docker volume rm", err, o.prefix+"late")
		return nil
	})
}

// change has containers stop and start meanwhile.
func (o outage) change() {
	o.t.Helper()
	o.within(soon, "docker stop", func() error {
		return o.RemoveContainers(o.ctx, o.prefix+"stops")
	})
	o.start(o.prefix+"late", idle, o.prefix+"late:/data")
	o.eventually("unmount", func() error {
		if v := o.inspect(o.prefix + "stops"); v.Mounted {
			return errors.New("it is mounted")
		}
		return nil
	})
	want(o.t, "volume of the late container is mounted", o.inspect(o.prefix+"late").Mounted, true)
}

// recovered checks, with the eyes of another host, that the records have become
// true again. The end is as if nothing had been.
func (o outage) recovered(other *host) {
	o.t.Helper()
	o.wantBelief()
	other.wantBelief()
	other.wantLive(o.Name(), true)
	for name, holders := range map[string][]string{"runs": {o.Name()}, "late": {o.Name()}, "stops": nil, "known": nil} {
		other.wantHolders(o.prefix+name, holders...)
		if _, err := other.Docker(o.ctx, "volume", "rm", o.prefix+name); holders == nil {
			o.must(err)
		} else {
			other.fails("docker volume rm", err, fmt.Sprintf("%q", o.Name()), "stop its containers there")
		}
	}
	o.c.wantNoGap(o.prefix + "runs")
	o.removeContainer(o.prefix+"runs", o.prefix+"late")
	for _, name := range []string{"runs", "late"} {
		other.wantHolders(o.prefix + name)
		other.docker("volume", "rm", o.prefix+name)
	}
	o.sh(o.prefix+"after", "touch /data/file")
}

// quorumless is how long there is no leader: longer than a lease, and in full
// length where somebody has the time.
func quorumless() time.Duration {
	if os.Getenv("DVOLD_TEST_LONG") != "" {
		return time.Minute
	}
	return 25 * time.Second
}

func TestConsulServersFail(t *testing.T) {
	c := ownCluster(t, 2, quorum)
	h, other, all := c.h(1), c.h(2), c.Servers()

	o := newOutage(c, h, "quorum-")
	for _, s := range all[1:] {
		h.must(s.Kill())
	}
	began := time.Now()
	o.endure()
	o.change()
	before := h.costs()
	for time.Since(began) < quorumless() {
		o.endure()
	}
	after := h.costs()
	t.Logf("dvold after %v without Consul: %v, before %v", time.Since(began).Round(time.Second), after, before)
	if after.threads > before.threads+5 || after.files > before.files+10 || after.kilobytes > before.kilobytes*3/2+10<<10 {
		t.Errorf("dvold grows while Consul is away: %v, before %v", after, before)
	}
	for _, s := range all[1:] {
		h.must(s.Boot(h.ctx))
	}
	h.must(c.StartConsul(h.ctx))
	o.recovered(other)

	o = newOutage(c, h, "restart-")
	for _, s := range all {
		h.must(s.Consul.Kill())
	}
	o.endure()
	o.change()
	h.must(c.StartConsul(h.ctx))
	o.recovered(other)

	o = newOutage(c, h, "leader-")
	leader, err := c.Leader(h.ctx)
	h.must(err)
	h.must(leader.Kill())
	for _, args := range [][]string{{"volume", "ls"}, {"ps"}, {"volume", "inspect", "leader-known"}} {
		h.within(prompt, "docker "+strings.Join(args, " "), func() error {
			_, err := h.Docker(h.ctx, args...)
			return err
		})
	}
	h.within(soon, "docker run", func() error {
		_, err := h.trySh("leader-known", "touch /data/file")
		return err
	})
	o.change()
	h.eventually("create under a new leader", func() error {
		_, err := h.Docker(h.ctx, "volume", "create", "-d", "dvol", "leader-new")
		return err
	})
	h.must(leader.Boot(h.ctx))
	h.must(leader.Consul.Start(h.ctx))
	o.recovered(other)
}

// A host loses Consul and all others don't.
func TestConsulOfOneHostFails(t *testing.T) {
	c := ownCluster(t, 4, 1)
	other := c.h(4)
	for i, fault := range []struct {
		name        string
		begin, mend func(context.Context, *lab.Host) error
	}{
		{"agent stopped",
			func(_ context.Context, h *lab.Host) error { return h.Agent.Stop() },
			func(ctx context.Context, h *lab.Host) error { return h.Agent.Start(ctx) }},
		{"host cut off",
			func(ctx context.Context, h *lab.Host) error { return h.Cut(ctx, lab.Consul) },
			func(ctx context.Context, h *lab.Host) error { return errors.Join(h.Heal(ctx), h.Rejoin(ctx)) }},
		{"agent frozen",
			func(_ context.Context, h *lab.Host) error { return h.Agent.Freeze() },
			func(_ context.Context, h *lab.Host) error { return h.Agent.Thaw() }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			h, other := c.h(i+1).in(t, t.Context()), other.in(t, t.Context())
			o := newOutage(&cluster{Cluster: c.Cluster, t: t}, h, h.Name()+"-")
			h.must(fault.begin(h.ctx, h.Host))
			o.endure()
			o.change()
			other.wantLive(h.Name(), false)
			other.dockerFails([]string{"is silent", "dvold host forget " + h.Name()}, "volume", "rm", o.prefix+"runs")
			o.endure()
			h.must(fault.mend(h.ctx, h.Host))
			o.recovered(other)
		})
	}
}
