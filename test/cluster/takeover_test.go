package cluster_test

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// leaseWait is what a taker waits for once an owner's session is over, by the
// terms of all hosts here, and leaseTakeover what a takeover by lease takes from
// the moment the owner falls silent: docs/takeover.md has the reasons.
const (
	leaseWait     = lease + cutTime + time.Second + lease/10
	leaseTakeover = 2*lease + leaseWait
)

// machineTime is what a machine that has a lot to do may add to that: what is fast is for benchmarks to tell.
const machineTime = 30 * time.Second

// atOnce does some things at once, and ends the test if one fails.
func (c *cluster) atOnce(things ...func() error) {
	c.t.Helper()
	errs := make([]error, len(things))
	var all sync.WaitGroup
	for i, do := range things {
		all.Go(func() { errs[i] = do() })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

// place is a volume of a host: the name of both its volume and its container,
// and where that lies.
type place struct{ pool, name string }

// placeOf is the volume that a host has in a pool.
func placeOf(pool string, h *host) place { return place{pool, pool + "-" + h.Name()} }

// writes has a container of the host write to a new exclusive volume in each of
// the pools, and waits until beats of it have reached the volume.
func (h *host) writes(c *cluster, pools ...string) error {
	for _, pool := range pools {
		p := placeOf(pool, h)
		err := h.CreateVolume(h.ctx, "dvol", p.name, "pool="+pool, "access=exclusive")
		if err == nil {
			err = h.tryBeat(p.name, p.name)
		}
		if err != nil {
			return err
		}
	}
	for _, pool := range pools {
		if err := c.beatsOn(placeOf(pool, h), h, 0); err != nil {
			return err
		}
	}
	return nil
}

// beatsOn waits until a beat of a host has reached a volume that was written
// after a moment.
func (c *cluster) beatsOn(p place, h *host, after time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		last, err := c.lastBeat(p, h)
		if last > after { // whatever is wrong with others: see wantOneWriter
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s writes nothing to %s (%v)", h.Name(), p.name, err)
		}
	}
}

// lastBeat is when a host wrote the last of its beats that have reached a volume;
// 0 if it wrote none.
func (c *cluster) lastBeat(p place, h *host) (last time.Duration, err error) {
	beats, err := c.beatsOf(p.pool, p.name)
	for _, b := range beats {
		if b.Host == h.Name() {
			last = b.At
		}
	}
	return last, err
}

// gets has the host start a container with a volume that another has, again and
// again until it gets it and writes. It returns when that was.
func (h *host) gets(c *cluster, p place, from, limit time.Duration) error {
	took, err := h.tryTakeOver(p.name, p.name, from, limit)
	if err != nil {
		return err
	}
	if err := c.beatsOn(p, h, 0); err != nil {
		return err
	}
	h.t.Logf("%s has %s %v after that", h.Name(), p.name, took.Round(time.Millisecond))
	return nil
}

// back brings a host back, whatever was done to it: nothing is cut off, it is up
// and not frozen, and all its daemons run. It returns once the host is clean:
// nobody has a proof against it, and it has the storage.
func (h *host) back(c *cluster) error {
	fenced := c.storageFenced(h)
	err := h.Heal(h.ctx)
	switch {
	case err != nil:
		return err
	case !h.Up():
		err = h.Boot(h.ctx)
	default:
		if h.Frozen() {
			err = h.Thaw()
		}
		for _, d := range h.Daemons() {
			if d.Frozen() {
				err = errors.Join(err, d.Thaw())
			}
		}
		if h.Agent.Running() {
			err = errors.Join(err, h.Rejoin(h.ctx))
		}
	}
	if err != nil {
		return err
	}
	if err := h.StartAll(h.ctx); err != nil {
		return err
	}
	if err := h.clean(c); err != nil {
		return err
	}
	if fenced { // what it had mounted is dead
		return h.RemountStorage(h.ctx)
	}
	return nil
}

// storageFenced tells whether the storage server, if there is one, has the host cut
// off.
func (c *cluster) storageFenced(h *host) bool {
	return c.Storage() != nil && c.Storage().Fenced(h.Name())
}

// clean waits until a host is not fenced, and nobody has a proof against it.
func (h *host) clean(c *cluster) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		proofs, err := c.keys("fences/" + h.Name() + "/")
		if err == nil && len(proofs) > 0 {
			err = fmt.Errorf("there is a proof against it: %v", proofs)
		}
		if err == nil && c.storageFenced(h) {
			err = errors.New("it is fenced")
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not clean: %w", h.Name(), err)
		}
	}
}

// keys are those of the records whose keys begin with a prefix.
func (c *cluster) keys(prefix string) ([]string, error) {
	return c.Servers()[0].RecordKeys(c.h(1).ctx, prefix)
}

// wantWriterStopped checks that what a host that was cut off at a moment wrote
// in its places had an end by the end of its lease and the time for a cut, by
// which nobody else may have begun.
func (c *cluster) wantWriterStopped(p place, h *host, since time.Duration) {
	c.t.Helper()
	last, err := c.lastBeat(p, h)
	if err != nil {
		c.t.Errorf("beats of %s: %v", p.name, err)
	}
	if limit := since + lease + cutTime; last > limit {
		c.t.Errorf("%s wrote to %s for %v after it fell silent, want at most %v", h.Name(), p.name, last-since, limit-since)
	}
	c.t.Logf("%s wrote to %s for %v after it fell silent", h.Name(), p.name, (last - since).Round(time.Millisecond))
}
