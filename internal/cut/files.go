package cut

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// deleted is what the kernel writes behind the path of a file that has none any
// more.
const deleted = " (deleted)"

// file is what a process has of a file.
type file struct {
	link   string // in the directory of the thread
	path   string // as the kernel writes it; "" if it is too long to be written
	mount  int    // through which it was opened, by number
	writes bool   // the process can write to it, or to what is below it
}

// descriptors looks at the descriptors of a thread.
func (e *examination) descriptors(ctx context.Context, t thread) error {
	numbers, err := t.dir.names("fd")
	if err != nil {
		return err
	}
	for _, number := range numbers {
		if err := e.descriptor(ctx, t, number); err != nil && !gone(err) {
			return err
		}
		if e.why != "" {
			return nil
		}
	}
	return nil
}

func (e *examination) descriptor(ctx context.Context, t thread, number string) error {
	link := "fd/" + number
	path, err := t.dir.link(link)
	if errors.Is(err, unix.ENAMETOOLONG) {
		path, err = "/", nil
	}
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(path, "socket:["):
		if inode, err := strconv.ParseUint(strings.TrimSuffix(path[len("socket:["):], "]"), 10, 64); err == nil {
			e.owned[inode] = true
		}
		return nil
	case strings.HasPrefix(path, "mnt:["):
		_, err := e.space(t.dir, link, e.pid)
		return err
	case !strings.HasPrefix(path, "/"):
		return nil // it has no path: a pipe, say
	}
	d, err := t.dir.descriptor(number)
	if err != nil {
		return err
	}
	f := file{link: link, path: path, mount: d.mount, writes: d.flags&unix.O_PATH == 0}
	return e.check(ctx, t, f, "has %s open")
}

// check settles whether f is in a target, which why will say then.
func (e *examination) check(ctx context.Context, t thread, f file, why string) error {
	in, sure := e.inside(f)
	if !sure {
		var err error
		if in, err = e.detached(ctx, t, f); err != nil {
			return err
		}
		why += ", through a mount that is in no mount table"
	}
	if in {
		e.why = fmt.Sprintf(why, f.path)
	}
	return nil
}

// detached settles whether f is in a target though no table that was read has
// its mount. That may have been made since. Or it was taken away while f was in
// use, and then nobody can say which directory of the file system f is in: if
// it can be written to, it counts, lest a writer is overlooked. A protected
// process has such mounts for its own ends.
func (e *examination) detached(ctx context.Context, t thread, f file) (bool, error) {
	if e.protected || !f.writes {
		return false, nil
	}
	device, err := t.dir.device(f.link)
	if err != nil || !e.devices[device] {
		return false, err
	}
	if err := e.refresh(ctx); err != nil {
		return false, err
	}
	in, sure := e.inside(f)
	return in || !sure, nil
}

// inside tells whether f is in a target, if it can be sure of that.
func (l *look) inside(f file) (in, sure bool) {
	found, ok := l.mounts[f.mount]
	if !ok {
		return false, l.numbers[f.mount]
	}
	m := found.Info
	sure = true
	for _, t := range l.targets {
		switch {
		case !t.on(m):
		case t.shownBy(m):
			return true, true
		case within(t.root, m.Root):
			path, ok := inFileSystem(f.path, m)
			if ok && within(path, t.root) {
				return true, true
			}
			sure = sure && ok
		}
	}
	return false, sure
}

// inFileSystem turns a path that leads through m into that within the file
// system.
func inFileSystem(path string, m *mountinfo.Info) (string, bool) {
	path = strings.TrimSuffix(path, deleted)
	if !within(path, m.Mountpoint) {
		return "", false
	}
	return filepath.Join(m.Root, strings.TrimPrefix(path, strings.TrimSuffix(m.Mountpoint, "/"))), true
}
