package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Baselines in Consul: plain calls to the same agent.
const (
	kvGet = "KV GET, consistent, same agent"
	kvTwo = "two KV transactions, same agent"
)

// gets measures Get of a volume that exists.
func (b *clusterBench) gets() error {
	const known = "known"
	for _, n := range []int{1, alone} {
		if err := b.host(n).dvol.create(b.ctx, known); err != nil {
			return err
		}
	}
	return b.getsOf("Get", known, 500)
}

func (b *clusterBench) getsOf(what, name string, rounds int) error {
	const embedded = "Get, embedded coordination"
	const key = "bench/known"
	h := b.host(1)
	if err := h.consul.put(b.ctx, key); err != nil {
		return err
	}
	s := series{}
	err := interleave(rounds, s,
		step{kvGet, func() error { return h.consul.get(b.ctx, key) }},
		step{embedded, func() error { return b.host(alone).dvol.get(b.ctx, "known") }},
		step{what, func() error { return h.dvol.get(b.ctx, name) }})
	get := s.row(what, kvGet)
	get.Under = 2 * time.Millisecond
	b.Rows = append(b.Rows, get, s.row(what, embedded))
	return err
}

// life measures all that changes a volume.
func (b *clusterBench) life() error {
	const create, use, remove, name = "Create", "Mount + Unmount, only use on this host", "Remove", "passing"
	h, ctx := b.host(1), b.ctx
	s := series{}
	for range 100 {
		for _, step := range []step{ // one needs the other: these don't take turns
			{kvTwo, func() error { return h.consul.pair(ctx, "bench/pair") }},
			{create, func() error { return h.dvol.create(ctx, name) }},
			{use, func() error { return h.dvol.use(ctx, name, mountID(1)) }},
			{remove, func() error { return h.dvol.remove(ctx, name) }},
		} {
			if err := s.time(step.what, step.do); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
	}
	b.Rows = append(b.Rows, s.row(create, kvTwo), s.row(use, kvTwo), s.row(remove, kvTwo))
	return nil
}

// across measures how soon h2 sees what h1 made, from the beginning of the
// making on.
func (b *clusterBench) across() error {
	const putGet, putKeys = "KV PUT here, until a consistent GET there finds it", "KV PUT here, until a keys-only read there has it"
	get, list := "Create here, until Get on another host finds it", "Create here, until List on another host has it"
	here, there := b.host(1), b.host(2)
	s := series{}
	for i := range 30 {
		key, name := fmt.Sprintf("bench/across/%d", i), fmt.Sprintf("across-%d", i)
		for _, step := range []struct {
			what       string
			make, seen func(ctx context.Context) error
		}{
			{putGet, func(ctx context.Context) error { return here.consul.put(ctx, key+"a") },
				func(ctx context.Context) error { return there.consul.get(ctx, key+"a") }},
			{putKeys, func(ctx context.Context) error { return here.consul.put(ctx, key+"b") },
				func(ctx context.Context) error { return hasKey(ctx, there.consul, key+"b") }},
			{get, func(ctx context.Context) error { return here.dvol.create(ctx, name+"a") },
				func(ctx context.Context) error { return there.dvol.get(ctx, name+"a") }},
			{list, func(ctx context.Context) error { return here.dvol.create(ctx, name+"b") },
				func(ctx context.Context) error { return lists(ctx, there.dvol, name+"b") }},
		} {
			if err := s.time(step.what, func() error { return b.appears(step.make, step.seen) }); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
		for _, end := range []string{"a", "b"} { // and the next create is of a new name for h2, too
			if err := here.dvol.remove(b.ctx, name+end); err != nil {
				return err
			}
		}
	}
	soon := s.row(get, putGet)
	soon.Under = 50 * time.Millisecond
	b.Rows = append(b.Rows, soon, s.row(list, putKeys))
	return nil
}

// appears makes something and asks again and again until it is seen.
func (b *clusterBench) appears(make, seen func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := make(ctx); err != nil {
		return err
	}
	for {
		err := seen(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func hasKey(ctx context.Context, a agent, key string) error {
	keys, err := a.keys(ctx, "bench/across/", stale)
	if err == nil && !slices.Contains(keys, key) {
		err = fmt.Errorf("%s is not listed", key)
	}
	return err
}

func lists(ctx context.Context, p plugin, name string) error {
	all, err := p.names(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Name == name {
			return nil
		}
	}
	return fmt.Errorf("%s is not listed", name)
}
