package cut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/internal/host"
)

// space is a mount namespace as it was met.
type space struct {
	name   string   // as the kernel writes it: mnt:[4026531841]
	file   *os.File // nil is ours
	where  string   // for people: "" is ours, else "pid 123"
	home   bool     // this host itself lives there: it is ours, or pid 1's
	table  host.MountTable
	shown  []*mountinfo.Info // what shows a target
	victim string            // why all who live in it can write; "" if they can't
}

// at names a mountpoint in it, for people.
func (s *space) at(mountpoint string) string {
	if s.where == "" {
		return mountpoint
	}
	return s.where + ": " + mountpoint
}

// space returns the namespace that a link in d leads to, for which pid stands.
func (l *look) space(d dir, link string, pid int) (*space, error) {
	name, err := d.link(link)
	if err != nil {
		return nil, err
	}
	if s := l.spaces[name]; s != nil {
		return s, nil
	}
	file, err := d.namespace(link)
	if err != nil {
		return nil, err
	}
	return l.enter(file, name, "pid "+strconv.Itoa(pid))
}

// enter reads the table of a namespace.
func (l *look) enter(file *os.File, name, where string) (*space, error) {
	table, err := host.ReadMountTable(file)
	s := &space{name: name, file: file, where: where, table: table}
	if err == nil {
		err = l.admit(s)
	}
	if err != nil {
		delete(l.spaces, name)
		file.Close()
		return nil, fmt.Errorf("mount namespace of %s: %v", where, err) // not that a process is gone
	}
	return s, nil
}

// admit takes down what a table shows, and goes on to the namespaces that only
// a mount in it keeps.
func (l *look) admit(s *space) error {
	l.spaces[s.name] = s
	if err := l.index(s); err != nil {
		return err
	}
	pins, err := s.table.OfType("nsfs")
	if err != nil {
		return err
	}
	for _, m := range pins {
		if strings.HasPrefix(m.Root, "mnt:[") && l.spaces[m.Root] == nil {
			if err := l.pinned(s, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// index takes down the mounts of a table.
func (l *look) index(s *space) error {
	for id := range s.table.IDs() {
		l.numbers[id] = true
		s.home = s.home || id == l.first
	}
	s.shown, s.victim = nil, ""
	for _, t := range l.targets {
		mounts, err := s.table.Of(t.major, t.minor)
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if path, ok := t.path(m); ok {
				l.paths[path] = true
			}
			if t.on(m) {
				l.mounts[m.ID] = mount{m, s.name}
			}
			if t.shownBy(m) && !slices.ContainsFunc(s.shown, func(o *mountinfo.Info) bool { return o.ID == m.ID }) {
				s.shown = append(s.shown, m)
			}
		}
	}
	if s.home {
		return nil
	}
	for _, m := range s.shown {
		if copied, err := l.copied(s, m.Mountpoint); err != nil {
			return err
		} else if !copied {
			s.victim = "lives where the volume is mounted at " + m.Mountpoint
		}
	}
	if where, ok := l.stuck[s.name]; ok && len(s.shown) > 0 {
		s.victim = "lives where the mount at " + where + " can't be taken away"
	}
	return nil
}

// copied tells whether a mount is there only because the namespace has a copy
// of the host's mount table, as a monitor with the host's root directory or a
// service with a namespace of its own has it: its mountpoint ends in dvold's.
// Or it ends in another at which this host itself shows the volume, and what
// precedes that shows the host's root directory.
func (l *look) copied(s *space, mountpoint string) (bool, error) {
	if strings.HasSuffix(mountpoint, l.v.Mountpoint) {
		return true, nil
	}
	for _, other := range l.others {
		above, ok := strings.CutSuffix(mountpoint, other)
		if !ok {
			continue
		}
		if above == "" {
			above = "/"
		}
		roots, err := s.table.At(above)
		if err != nil {
			return false, err
		}
		for _, m := range roots {
			if m.Major == l.root.Major && m.Minor == l.root.Minor && m.Root == l.root.Root {
				return true, nil
			}
		}
	}
	return false, nil
}

// pinned goes on to the namespace that a mount keeps. A mount that is hidden
// below another lets nobody in.
func (l *look) pinned(s *space, m *mountinfo.Info) error {
	root, err := host.MountRoot(s.file, m)
	if errors.Is(err, host.ErrHidden) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := os.Open(fmt.Sprintf("/proc/thread-self/fd/%d", root.Fd()))
	if err != nil {
		return err
	}
	_, err = l.enter(file, m.Root, "namespace "+s.at(m.Mountpoint))
	return err
}

// leave lets go of the namespaces. For one that nobody else has this is the
// end, and of its mounts.
func (r *run) leave(ctx context.Context, l *look) {
	for _, s := range l.spaces {
		if s.file == nil {
			continue
		}
		key := fmt.Sprintf("leave %s for volume %s", s.name, r.v.ID)
		if err := r.c.calls.Run(ctx, key, s.file.Close); err != nil && ctx.Err() == nil {
			r.log.Warn("mount namespace was not left", "volume", r.v.ID, "where", s.where, "err", err)
		}
	}
}

// firstMount returns the number of a mount of the namespace of pid 1. No other
// namespace has it, and it may be seen even where all else about pid 1 is not.
func firstMount() (int, error) {
	f, err := os.Open("/proc/1/mountinfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var id int
	if _, err := fmt.Fscan(f, &id); err != nil {
		return 0, fmt.Errorf("read mount table of process 1: %w", err)
	}
	return id, nil
}
