package main

import (
	"fmt"
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

// How often the sides take turns, and what each does in one.
const (
	wholeRounds = 20 // of one write and one read of it all
	someRounds  = 30
	someWrites  = 40
	someReads   = 200
)

// inputOutput reads and writes through a shared volume, an exclusive one, and two
// direct mounts of the same Gluster volume: how far those two differ is how far
// two clients do that are alike.
func (b *glusterBench) inputOutput() error {
	sides, err := b.sides()
	if err != nil {
		return err
	}
	defer func() {
		for _, side := range sides {
			side.close()
		}
	}()
	for i := range wholeRounds {
		for _, do := range []struct {
			what string
			of   func(*side) error
		}{{writeAll, (*side).writeAll}, {readAll, (*side).readAll}} {
			for _, side := range inTurn(i, sides...) {
				if err := side.forget(); err != nil {
					return err
				}
				if err := b.s.time(do.what+side.name, func() error { return do.of(side) }); err != nil {
					return err
				}
			}
		}
	}
	for i := range someRounds {
		for _, do := range []struct {
			what  string
			times int
			of    func(*side) error
		}{{writeSome, someWrites, (*side).writeSome}, {readSome, someReads, (*side).readSome}} {
			for _, side := range inTurn(i, sides...) {
				if err := side.forget(); err != nil {
					return err
				}
				for range do.times {
					if err := b.s.time(do.what+side.name, func() error { return do.of(side) }); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, what := range []string{writeAll, readAll, writeSome, readSome} {
		for _, name := range []string{viaShared, viaExclusive, directToo} {
			r := b.s.row(what+name, what+direct)
			if name == viaShared {
				r.Within = ioWithin
			}
			b.Rows = append(b.Rows, r)
		}
	}
	return nil
}

// sides are the four ways to the bricks. All but the exclusive volume show the same
// directory.
func (b *glusterBench) sides() ([]*side, error) {
	at := make(map[string]string)
	for n, access := range []string{"shared", "exclusive"} {
		name := "io-" + access
		if err := b.dvol.createAs(b.ctx, name, map[string]string{"pool": glusterPool, "access": access}); err != nil {
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
		side, err := newSide(w.name, filepath.Join(w.dir, fmt.Sprintf("file-%d", n)))
		if err != nil {
			return nil, err
		}
		sides = append(sides, side)
	}
	pause(b.ctx, 2*time.Second) // clients are done with what was written
	return sides, nil
}
