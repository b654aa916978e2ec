package cut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/internal/host"
)

// look is one look at all processes and mount namespaces of this machine, for
// who can write to the targets.
type look struct {
	*run
	spaces  map[string]*space // mount namespaces that were met, by name
	root    *mountinfo.Info   // our root directory
	first   int               // a mount of the namespace of pid 1, by number
	mounts  map[int]mount     // of the targets' file systems, wherever they are, by number
	paths   map[string]bool   // at which these mounts show a target, or a part of it
	numbers map[int]bool      // of all mounts
	owned   map[uint64]bool   // sockets that processes have, by inode
}

// mount is one in a namespace, by name.
type mount struct {
	*mountinfo.Info
	space string
}

// survey settles what the targets are, and reads the tables of all mount
// namespaces. The caller has to leave them, even after an error.
func (r *run) survey(ctx context.Context) (*look, error) {
	l := &look{
		run: r, spaces: make(map[string]*space),
		mounts: make(map[int]mount), paths: make(map[string]bool), numbers: make(map[int]bool), owned: make(map[uint64]bool),
	}
	own, err := l.begin()
	if err != nil || len(r.targets) == 0 {
		return l, err
	}
	if err := l.admit(own); err != nil {
		return l, err
	}
	for _, m := range own.shown {
		if !strings.HasSuffix(m.Mountpoint, r.v.Mountpoint) && !slices.Contains(r.others, m.Mountpoint) {
			r.others = append(r.others, m.Mountpoint)
		}
	}
	if err := l.meet(ctx); err != nil {
		return l, err
	}
	r.describe(l)
	return l, nil
}

// begin reads our own table, and locates the targets by it.
func (l *look) begin() (*space, error) {
	var err error
	own := &space{home: true}
	if own.table, err = host.ReadMountTable(nil); err != nil {
		return nil, err
	}
	roots, err := own.table.At("/")
	if err == nil && len(roots) == 0 {
		err = errors.New("no root directory in the mount table")
	}
	if err != nil {
		return nil, err
	}
	l.root = roots[len(roots)-1]
	if own.name, err = os.Readlink("/proc/self/ns/mnt"); err != nil {
		return nil, err
	}
	if l.first, err = firstMount(); err != nil {
		return nil, err
	}
	if err := l.locate(own.table); err != nil {
		return nil, err
	}
	for _, t := range l.targets {
		if t.shownBy(l.root) {
			return nil, fmt.Errorf("%v, directory %s, is the root directory of this host", t, t.root)
		}
	}
	return own, nil
}

// meet reads the tables of the namespaces that processes live in. Threads of a
// process that live in another are met later.
func (l *look) meet(ctx context.Context) error {
	return eachDir(ctx, func(pid int, d dir) error {
		_, err := l.space(d, "ns/mnt", pid)
		return err
	})
}

// refresh reads all tables again, and those of namespaces not met yet.
func (l *look) refresh(ctx context.Context) error {
	for _, s := range l.spaces {
		var err error
		if s.table, err = host.ReadMountTable(s.file); err == nil {
			err = l.index(s)
		}
		if err != nil {
			return fmt.Errorf("mount namespace of %s: %v", s.where, err) // not that a process is gone
		}
	}
	return l.meet(ctx)
}

// shown returns the namespaces that show a target, ours first.
func (l *look) shown() (found []*space) {
	for _, s := range l.spaces {
		if len(s.shown) > 0 {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *space) int { return strings.Compare(a.where, b.where) })
	return found
}
