package cut

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// unmount takes away what shows a target in the namespaces, neither lazily nor
// by force, and returns what it could not take away.
func (r *run) unmount(ctx context.Context, spaces []*space) (left []string, err error) {
	for _, s := range spaces {
		o, err := hang.Call(ctx, &r.c.calls, fmt.Sprintf("unmount volume %s in %s", r.v.ID, s.name), func() (removal, error) {
			return remove(ctx, s, slices.Clone(r.targets))
		}, nil)
		for _, mountpoint := range o.done {
			where := s.at(mountpoint)
			r.note(func(report *Report) { report.Unmounted = append(report.Unmounted, where) })
			r.log.Info("volume was unmounted", "volume", r.v.ID, "mountpoint", where)
		}
		for id, f := range o.failed {
			if immovable(f.err) {
				r.stick(s, id, f.mountpoint)
			}
			left = append(left, fmt.Sprintf("the mount at %s: %v", s.at(f.mountpoint), f.err))
		}
		if err != nil {
			return left, err
		}
	}
	return left, nil
}

// stickyAfter is for how long a mount must have been immovable: while a container
// begins, mounts are moved about.
const stickyAfter = 500 * time.Millisecond

// stick takes down that a mount can't be taken away from a namespace, if that is
// so for long enough. Whoever lives there, in no namespace of the host's own, can
// write to the volume for as long as he lives, then.
func (r *run) stick(s *space, id int, mountpoint string) {
	key := fmt.Sprintf("%s %d %s", s.name, id, mountpoint)
	since, ok := r.since[key]
	if !ok {
		since = time.Now()
		r.since[key] = since
	}
	if time.Since(since) >= stickyAfter {
		r.stuck[s.name] = mountpoint
	}
}

// removal is what became of the mounts of a namespace.
type removal struct {
	done   []string        // mountpoints
	failed map[int]failure // by the mount's number
}

// failure is why a mount could not be taken away.
type failure struct {
	mountpoint string
	err        error
}

// remove takes away what shows one of the targets in a namespace. It ends with
// ctx, for then nobody is there who wants that.
func remove(ctx context.Context, s *space, targets []target) (removal, error) {
	o := removal{failed: make(map[int]failure)}
	for ctx.Err() == nil {
		table, err := host.ReadMountTable(s.file)
		if err != nil {
			return o, err
		}
		mounts, err := table.All()
		if err != nil {
			return o, err
		}
		m := removable(mounts, targets, o.failed)
		if m == nil {
			maps.DeleteFunc(o.failed, func(id int, _ failure) bool { // gone by itself
				return !slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.ID == id })
			})
			return o, nil
		}
		if err := unmountIn(s, m); err != nil {
			o.failed[m.ID] = failure{m.Mountpoint, err}
		} else {
			o.done = append(o.done, m.Mountpoint)
		}
	}
	return o, context.Cause(ctx)
}

// removable returns a mount that shows one of the targets, or stands on one
// that does, and on which none stands; nil if all such have failed.
func removable(mounts []*mountinfo.Info, targets []target, failed map[int]failure) *mountinfo.Info {
	standing := make(map[int]*mountinfo.Info) // one of those that stand on a mount
	for _, m := range mounts {
		if m.ID != m.Parent {
			standing[m.Parent] = m
		}
	}
	for _, m := range mounts {
		if !slices.ContainsFunc(targets, func(t target) bool { return t.shownBy(m) }) {
			continue
		}
		for standing[m.ID] != nil {
			m = standing[m.ID]
		}
		if _, ok := failed[m.ID]; !ok {
			return m
		}
	}
	return nil
}

// unmountIn unmounts m, and nothing else that its path may lead to. It asks
// nothing of a file system that stays; one that goes may have to write first.
func unmountIn(s *space, m *mountinfo.Info) error {
	root, err := host.MountRoot(s.file, m)
	if err != nil {
		return err
	}
	root.Close()
	return host.InMountNamespace(s.file, func() error { return unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW) })
}

// immovable tells of an error that it will not go away: the mount is hidden, or
// locked, as all are in a copy of the mount table that an unprivileged user was
// given; see mount_namespaces(7).
func immovable(err error) bool {
	return errors.Is(err, host.ErrHidden) || errors.Is(err, unix.EINVAL)
}
