package main

import (
	"fmt"
	"time"
)

// manyVolumes measures List and Get of many.
func (b *clusterBench) manyVolumes() error {
	for _, step := range []struct {
		volumes int
		text    string
		rounds  int
		under   time.Duration
	}{
		{10_000, "10,000 volumes", 20, 100 * time.Millisecond},
		{100_000, "100,000 volumes", 8, time.Second},
	} {
		if err := b.load(step.volumes); err != nil {
			return fmt.Errorf("load %s: %w", step.text, err)
		}
		if err := b.listsOf(step.volumes, step.text, step.rounds, step.under); err != nil {
			return err
		}
	}
	return b.getsOf("Get, 100,000 volumes", loadedName(99_000), 200)
}

// listsOf measures List. After a change that this host made it fetches the list
// anew, from a server that knows of the change; otherwise it may answer from
// the last one for a while.
func (b *clusterBench) listsOf(n int, volumes string, rounds int, under time.Duration) error {
	const passing = "passing"
	keys := "keys-only read of " + volumes + ", same agent"
	first, again := "List, "+volumes+", first after a create", "List, "+volumes+", repeated"
	h := b.host(1)
	list := func() error {
		all, err := h.dvol.names(b.ctx)
		if err == nil && len(all) < n {
			err = fmt.Errorf("%d volumes are listed, want %d", len(all), n)
		}
		return err
	}
	s := series{}
	for range rounds {
		if err := h.dvol.create(b.ctx, passing); err != nil {
			return err
		}
		for _, step := range []step{
			{keys, func() error {
				all, err := h.consul.keys(b.ctx, volumeKeys, stale)
				if err == nil && len(all) < n {
					err = fmt.Errorf("%d keys are listed, want %d", len(all), n)
				}
				return err
			}},
			{first, list},
			{again, list},
		} {
			if err := s.time(step.what, step.do); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
		if err := h.dvol.remove(b.ctx, passing); err != nil {
			return err
		}
	}
	for _, what := range []string{first, again} {
		r := s.row(what, keys)
		r.Under = under
		b.Rows = append(b.Rows, r)
	}
	return nil
}
