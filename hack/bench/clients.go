package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// clientKind is a file system whose clients are processes.
type clientKind struct {
	program   string
	pool      string                    // dvold's, on it
	arguments func(dir string) []string // of a client that mounts all of it, and does not go into the background
}

// clientBench measures volumes that clients serve, inside a host where dvold runs.
type clientBench struct {
	ctx    context.Context
	kind   clientKind
	dvol   plugin
	consul agent
	dir    string // for what is no business of dvold's
	plain  []*plainClient
	s      series
	results
}

// clientStage takes all measures.
func clientStage(ctx context.Context, kind clientKind) (results, error) {
	dir, err := os.MkdirTemp("", "plain")
	if err != nil {
		return results{}, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:8500")
	}
	b := &clientBench{
		ctx: ctx, kind: kind, dvol: plugin{newClient(pluginSocket)}, consul: agent{newClientOver(dial)}, dir: dir, s: series{},
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"clients", b.clients},
		{"input and output", b.inputOutput},
	} {
		if err := step.do(); err != nil {
			return b.results, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return b.results, b.stopPlain()
}

// What is measured of mounts. The baseline is a client for each volume.
const (
	firstUse     = "Create + Mount of the first shared volume, which starts the client"
	anotherMount = "Mount of another shared volume, up to the 20th"
	manyMounts   = "Mount of another shared volume, up to the 200th"
	kvOne        = "one KV transaction, same agent"
)

// plainStart is the baseline.
func (k clientKind) plainStart() string {
	return "start of a " + k.program + " client until its root answers"
}

// How many volumes are mounted: for the comparison with a client for each, and
// for the memory of the one client.
const (
	asManyClients = 20
	fewMounted    = 10
	manyMounted   = 200
)

// Targets: how long a mount may take, against the start of a client, and how much
// memory the one client may have with many volumes, against few.
const (
	mountWithin  = 1.0 / 20
	memoryWithin = 1.1
)

// clients mounts volumes, by dvold and by a client for each, in turn, and looks
// how large clients are. A file is written to each once it is mounted, on
// either side.
func (b *clientBench) clients() error {
	var few, twenty, plain size
	for n := range manyMounted {
		if n < asManyClients {
			if err := b.mountPlain(n); err != nil {
				return err
			}
		}
		key := fmt.Sprintf("bench/mounts/%d", n)
		if err := b.s.time(kvOne, func() error { return b.consul.transact(b.ctx, change{"set", key, someValue}) }); err != nil {
			return err
		}
		if err := b.mountShared(n); err != nil {
			return err
		}
		var err error
		switch n + 1 {
		case fewMounted:
			_, few, err = b.clientsSize()
		case asManyClients:
			plain, twenty, err = b.clientsSize()
			if err == nil && (plain.Procs != asManyClients || twenty.Procs != 1) {
				err = fmt.Errorf("there are %d plain clients, and %d of dvold's", plain.Procs, twenty.Procs)
			}
		}
		if err != nil {
			return err
		}
	}
	_, many, err := b.clientsSize()
	if err != nil {
		return err
	}
	another := b.s.row(anotherMount, b.kind.plainStart())
	another.Within = mountWithin
	b.Rows = append(b.Rows, b.s.row(firstUse, b.kind.plainStart()), another, b.s.row(manyMounts, b.kind.plainStart()), b.s.row(manyMounts, kvOne))
	compare := func(what string, value int, baseline string, base int, within float64) {
		b.Figures = append(b.Figures, figure{
			What: what, Value: float64(value) / 1024, Unit: "MiB", Baseline: baseline, Base: float64(base) / 1024, Within: within,
		})
	}
	compare("resident memory of dvold's client, 20 shared volumes", twenty.RSS, fmt.Sprintf("20 %s clients, together", b.kind.program), plain.RSS, 0)
	compare("of that allocated", twenty.Anon, "of that allocated", plain.Anon, 0)
	compare("resident memory of dvold's client, 200 shared volumes", many.RSS, "the same with 10", few.RSS, memoryWithin)
	compare("of that allocated", many.Anon, "of that allocated", few.Anon, 0)
	return b.stopPlain()
}

// mountPlain starts a client for one volume more.
func (b *clientBench) mountPlain(n int) error {
	if err := b.s.time(b.kind.plainStart(), b.startPlain); err != nil {
		return err
	}
	dir := filepath.Join(b.plain[n].dir, fmt.Sprintf("plain-%d", n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return writeLittle(dir)
}

// mountShared makes and mounts one shared volume more.
func (b *clientBench) mountShared(n int) error {
	name, at := volumeName(n), ""
	create := func() error {
		return b.dvol.createAs(b.ctx, name, map[string]string{"pool": b.kind.pool, "access": "shared"})
	}
	mount := func() (err error) {
		at, err = b.dvol.mountpoint(b.ctx, name, mountID(n))
		return err
	}
	both := func() error {
		if err := create(); err != nil {
			return err
		}
		return mount()
	}
	var err error
	switch {
	case n == 0:
		err = b.s.time(firstUse, both)
	case n < asManyClients:
		if err = create(); err == nil {
			err = b.s.time(anotherMount, mount)
		}
	default:
		if err = create(); err == nil {
			err = b.s.time(manyMounts, mount)
		}
	}
	if err != nil {
		return err
	}
	return writeLittle(at)
}

// writeLittle writes a block to a file in dir.
func writeLittle(dir string) error {
	f, err := os.Create(filepath.Join(dir, "little"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 4096)
	rand.Read(block)
	if _, err := f.Write(block); err != nil {
		return err
	}
	return f.Sync()
}
