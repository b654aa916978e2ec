package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/test/lab"
)

// lent are the clusters for takeovers that tests have one after the other: to start one
// takes as much as many a test.
var lent struct {
	mu   sync.Mutex
	idle []*lab.Cluster
	all  []*lab.Cluster
}

// mostHosts is how many hosts a test may want of them.
const mostHosts = 4

// borrow returns a cluster that no other test has until this one has ended. It is lent
// again if the test was successful and has left it well.
func borrow(t *testing.T) *lab.Cluster {
	t.Helper()
	lab.Require(t)
	if missing := lab.MissingStorage(); missing != "" {
		t.Fatal(missing)
	}
	c := idleCluster()
	if c == nil {
		c = lend(t)
	}
	c.LogIfFailed(t)
	t.Cleanup(func() {
		err := unwell(c)
		if !t.Failed() && err == nil {
			lent.mu.Lock()
			defer lent.mu.Unlock()
			lent.idle = append(lent.idle, c)
			return
		}
		t.Logf("no other test has this cluster: %v", err)
		forget(c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func forget(c *lab.Cluster) {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	lent.all = slices.DeleteFunc(lent.all, func(other *lab.Cluster) bool { return other == c })
}

func idleCluster() *lab.Cluster {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	if len(lent.idle) == 0 {
		return nil
	}
	c := lent.idle[0]
	lent.idle = lent.idle[1:]
	return c
}

// lend starts a cluster.
func lend(t *testing.T) *lab.Cluster {
	t.Helper()
	o := takeoverOptions(mostHosts, 1)
	o.Consul = consultest.Binary(t)
	began := time.Now()
	ctx := context.Background() // it outlives the test
	c, err := lab.NewCluster(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	lent.mu.Lock()
	lent.all = append(lent.all, c)
	lent.mu.Unlock()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts started in %v", mostHosts, time.Since(began).Round(time.Millisecond))
	return c
}

// unwell tells what of a cluster is not as it was when it was started, and takes away what
// tests count.
func unwell(c *lab.Cluster) (err error) {
	for _, m := range c.Machines() {
		if !m.Up() || m.Frozen() || len(m.CutOff()) > 0 {
			err = errors.Join(err, fmt.Errorf("%s is down, frozen or cut off", m.Name()))
		}
		for _, d := range m.Daemons() {
			if !d.Running() || d.Frozen() {
				err = errors.Join(err, fmt.Errorf("%s of %s does not run", d.Name(), m.Name()))
			}
		}
		err = errors.Join(err, os.RemoveAll(m.Path("etc/lab/reboots")))
	}
	for _, h := range c.Hosts() {
		if c.Storage().Fenced(h.Name()) {
			err = errors.Join(err, fmt.Errorf("%s is fenced", h.Name()))
		}
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	proofs, err := c.Servers()[0].RecordKeys(ctx, "fences/")
	if err == nil && len(proofs) > 0 { // a machine that is another under an old name leaves some for good
		err = fmt.Errorf("there are proofs: %v", proofs)
	}
	return errors.Join(err, purge(ctx, c), os.RemoveAll(c.Path("shared/fences")))
}

// purge empties the trash.
func purge(ctx context.Context, c *lab.Cluster) error {
	dvold := c.Host(1).Admin
	all, err := dvold.Trash(ctx)
	for _, v := range all {
		_, failed := dvold.Purge(ctx, v.ID)
		err = errors.Join(err, failed)
	}
	return err
}

// closeLent ends all that were lent.
func closeLent() error {
	var errs []error
	for _, c := range lent.all {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
