package cut

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// target is a directory of a file system that must not be written to any more.
type target struct {
	major, minor int
	root         string
	kind, source string // "" is any
	sole         bool
	over         bool // the file system is gone, and its number may be another's by now
}

// known returns what v says about the file system, if it does.
func (v Volume) known() (t target, ok bool, err error) {
	if !filepath.IsAbs(v.Mountpoint) || filepath.Clean(v.Mountpoint) != v.Mountpoint || v.Mountpoint == "/" {
		return target{}, false, fmt.Errorf("mountpoint %q is not a plain absolute path", v.Mountpoint)
	}
	if v.Device == "" {
		return target{}, false, nil
	}
	major, minor, _ := strings.Cut(v.Device, ":")
	t = target{root: v.Root, kind: v.Type, source: v.Source, sole: v.Sole}
	if t.major, err = strconv.Atoi(major); err == nil {
		t.minor, err = strconv.Atoi(minor)
	}
	if err != nil {
		return target{}, false, fmt.Errorf("device %q is not a pair of numbers: %w", v.Device, err)
	}
	if !strings.HasPrefix(t.root, "/") {
		return target{}, false, fmt.Errorf("root %q is not an absolute path", v.Root)
	}
	return t, true, nil
}

func (t target) device() string { return fmt.Sprintf("%d:%d", t.major, t.minor) }

func (t target) String() string { return "file system " + t.device() }

// on tells whether m is a mount of the target's file system.
func (t target) on(m *mountinfo.Info) bool {
	return !t.over && m.Major == t.major && m.Minor == t.minor &&
		(t.kind == "" || t.kind == m.FSType) && (t.source == "" || t.source == m.Source)
}

// shownBy tells whether m shows nothing else than the target, or a part of it.
func (t target) shownBy(m *mountinfo.Info) bool {
	return t.on(m) && (t.sole || within(m.Root, t.root))
}

// path returns the path at which m shows the target, or a part of it.
func (t target) path(m *mountinfo.Info) (string, bool) {
	switch {
	case t.shownBy(m):
		return m.Mountpoint, true
	case t.on(m) && within(t.root, m.Root):
		return filepath.Join(m.Mountpoint, strings.TrimPrefix(t.root, m.Root)), true
	}
	return "", false
}

// locate settles what the targets are: what the volume says, and whatever is
// mounted where dvold mounts it. Of those that were met none is forgotten.
func (r *run) locate(own host.MountTable) error {
	t, ok, err := r.v.known()
	if err != nil {
		return err
	}
	if ok {
		r.target(t)
	}
	mounts, err := own.At(r.v.Mountpoint)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		r.target(target{m.Major, m.Minor, m.Root, m.FSType, m.Source, r.v.Sole, false})
		if m.Major == 0 && isFUSE(m.FSType) {
			r.c.connections.meet(r.v.ID, m.Minor)
		}
	}
	for i := range r.targets {
		t := &r.targets[i]
		device := unix.Mkdev(uint32(t.major), uint32(t.minor))
		if t.over = t.major == 0 && r.c.connections.over(r.v.ID, t.minor); t.over {
			delete(r.devices, device)
			continue
		}
		r.devices[device] = true
		if t.sole {
			if err := r.doubt(t, own); err != nil {
				return err
			}
		}
	}
	return nil
}

// target takes down a target, unless it is known, perhaps by less.
func (r *run) target(t target) {
	known := func(o target) bool {
		return o.major == t.major && o.minor == t.minor && o.root == t.root &&
			(o.kind == "" || t.kind == "" || o.kind == t.kind) && (o.source == "" || t.source == "" || o.source == t.source)
	}
	if i := slices.IndexFunc(r.targets, known); i >= 0 {
		r.targets[i].kind, r.targets[i].source = cmp.Or(r.targets[i].kind, t.kind), cmp.Or(r.targets[i].source, t.source)
		return
	}
	r.targets = append(r.targets, t)
}

// doubt makes sure that a file system which is said to be the volume's alone is
// mounted nowhere else in our namespace. If it is, it counts as one that others
// use too; or, if it is not mounted where it should be, as perhaps another, to
// which the kernel has given the same number since.
func (r *run) doubt(t *target, own host.MountTable) error {
	mounts, err := own.Of(t.major, t.minor)
	if err != nil {
		return err
	}
	there, elsewhere := false, ""
	for _, m := range mounts {
		switch {
		case !t.on(m):
		case within(m.Mountpoint, r.v.Mountpoint) || strings.HasSuffix(m.Mountpoint, r.v.Mountpoint):
			there = true
		default:
			elsewhere = m.Mountpoint
		}
	}
	switch {
	case elsewhere == "":
		return nil
	case !there:
		return fmt.Errorf("%v is mounted at %s, not at %s, and may be another by now", *t, elsewhere, r.v.Mountpoint)
	}
	t.sole = false
	r.log.Error("file system is not the volume's alone", "volume", r.v.ID, "device", t.device(), "mountpoint", elsewhere)
	return nil
}

// describe completes what is known of the targets by their mounts, so that they
// are told from file systems that get their numbers later.
func (r *run) describe(l *look) {
	for i := range r.targets {
		t := &r.targets[i]
		if mounts := l.mountsOn(*t); len(mounts) > 0 {
			t.kind, t.source = cmp.Or(t.kind, mounts[0].FSType), cmp.Or(t.source, mounts[0].Source)
		}
	}
}

// within tells whether path is dir or lies beneath it.
func within(path, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return strings.HasPrefix(path, dir) && (len(path) > len(dir) && path[len(dir)] == '/' || path == dir && dir != "")
}
