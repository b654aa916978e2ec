package cut

import (
	"cmp"
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
	number string // of the descriptor, if it is one
	path   string // as the kernel writes it; "" if it is too long for that
	mount  int    // through which it was opened, by number
	writes bool   // the process can write to it, or to what is below it; of a descriptor, see [examination.detached]
}

// descriptors looks at the descriptors of a thread.
func (e *examination) descriptors(ctx context.Context, t thread) error {
	numbers, err := t.dir.names("fd")
	if err != nil {
		return err
	}
	for _, number := range numbers {
		if err := e.descriptor(ctx, t, number); err != nil && !vanished(err) {
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
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		path = ""
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
	mount, err := t.dir.mount(link)
	if err != nil && !vanished(err) { // its storage is dead, perhaps
		var d descriptor
		d, err = t.dir.descriptor(number)
		mount = d.mount
	}
	if err != nil {
		return err
	}
	return e.check(ctx, t, file{link: link, number: number, path: path, mount: mount}, "has %s open")
}

// check settles whether f is in a target, which why will say then.
func (e *examination) check(ctx context.Context, t thread, f file, why string) error {
	in, sure := e.inside(f)
	if !sure {
		if e.perhaps != "" { // the storage hangs, and is not asked about each of many
			return nil
		}
		var err error
		if in, sure, err = e.detached(ctx, t, f); err != nil {
			return err
		}
		why += ", through a mount that is in no mount table"
	}
	why = fmt.Sprintf(why, cmp.Or(f.path, "a file with a very long path"))
	switch {
	case in:
		e.why = why
	case !sure:
		e.perhaps = why
	}
	return nil
}

// near tells whether a path, as the kernel writes it, is one that a target has
// through a mount that is in a table.
func (l *look) near(path string) bool {
	path = strings.TrimSuffix(path, deleted)
	for dir := range l.paths {
		if within(path, dir) {
			return true
		}
	}
	return false
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
