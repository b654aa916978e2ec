package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"
)

// Where files are read and written. The first is the baseline.
const (
	direct       = "direct mount"
	directToo    = "another direct mount"
	viaShared    = "shared volume"
	viaExclusive = "exclusive volume"
)

// What is done there.
const (
	writeAll  = "write of 64 MiB by 1 MiB, and fsync, "
	readAll   = "read of 64 MiB by 1 MiB, "
	writeSome = "write of 4 KiB somewhere, and fsync, "
	readSome  = "read of 4 KiB somewhere, "
)

// ioWithin is the target for a shared volume: what it may take, against a direct
// mount.
const ioWithin = 1.03

// What is done how often. Sides take turns after each time, in an order that
// changes at random, so that a busy machine slows all alike.
var ioSteps = []struct {
	what  string
	of    func(*side) error
	times int
	anew  int // after how many times files are opened anew
}{
	{writeAll, (*side).writeAll, 20, 1},
	{readAll, (*side).readAll, 40, 1},
	{writeSome, (*side).writeSome, 1000, 100},
	{readSome, (*side).readSome, 5000, 500},
}

// inputOutput reads and writes through a shared volume, an exclusive one, and two
// direct mounts of the same file system: how far those two differ is how far two
// clients do that are alike.
func (b *clientBench) inputOutput() error {
	sides, err := b.sides()
	if err != nil {
		return err
	}
	rows, err := b.s.compare(sides, direct, viaShared)
	b.Rows = append(b.Rows, rows...)
	return err
}

// compare reads and writes on all sides, one of which is the baseline, and one is to
// be as quick.
func (s series) compare(sides []*side, baseline, target string) (rows []row, err error) {
	defer func() {
		for _, side := range sides {
			side.close()
		}
	}()
	for _, do := range ioSteps {
		for i := range do.times {
			if i%do.anew == 0 {
				for _, side := range sides {
					if err := side.forget(); err != nil {
						return nil, err
					}
				}
			}
			for _, n := range rand.Perm(len(sides)) {
				side := sides[n]
				if err := s.time(do.what+side.name, func() error { return do.of(side) }); err != nil {
					return nil, fmt.Errorf("%s%s: %w", do.what, side.name, err)
				}
			}
		}
		for _, side := range sides {
			if side.name == baseline {
				continue
			}
			r := s.row(do.what+side.name, do.what+baseline)
			if side.name == target {
				r.Within = ioWithin
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// sides are the four ways to the storage. All but the exclusive volume show the same
// directory.
func (b *clientBench) sides() ([]*side, error) {
	at := make(map[string]string)
	for n, access := range []string{"shared", "exclusive"} {
		name := "io-" + access
		if err := b.dvol.createAs(b.ctx, name, map[string]string{"pool": b.kind.pool, "access": access}); err != nil {
			return nil, err
		}
		var err error
		if at[access], err = b.dvol.mountpoint(b.ctx, name, mountID(manyMounted+n)); err != nil {
			return nil, err
		}
	}
	where := []struct{ name, dir string }{{viaShared, at["shared"]}, {viaExclusive, at["exclusive"]}}
	for n, name := range []string{direct, directToo} {
		if err := b.startPlain(); err != nil {
			return nil, err
		}
		dirs, err := filepath.Glob(filepath.Join(b.plain[n].dir, "volumes", "io-shared.*"))
		if err != nil || len(dirs) != 1 {
			return nil, fmt.Errorf("the shared volume has %d directories", len(dirs))
		}
		where = append(where, struct{ name, dir string }{name, dirs[0]})
	}
	var sides []*side
	for n, w := range where {
		side, err := newSide(w.name, w.dir, n)
		if err != nil {
			return nil, err
		}
		sides = append(sides, side)
	}
	pause(b.ctx, 2*time.Second) // clients are done with what was written
	return sides, nil
}
