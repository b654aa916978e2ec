package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// User is a process in another mount namespace that has the mount.
type User struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Target  string `json:"target"` // in the namespace of the process
}

// OtherUsers lists processes, one for each mount namespace other than ours,
// that have the directory which m shows, or one beneath it, mounted.
//
// A copy of our own mount table does not count, as a monitor with the host's
// root directory or a service with a namespace of its own has it: there the
// mountpoint ends in that of m, which is empty if none of ours can be copied. Processes that vanish meanwhile are skipped. A
// namespace that only a file keeps, without any process, is not seen, nor one
// that a process has for a single thread beside its first.
func OtherUsers(ctx context.Context, m *mountinfo.Info) ([]User, error) {
	users, err := OtherUsersOf(ctx, []*mountinfo.Info{m})
	if err != nil {
		return nil, err
	}
	return users[0], nil
}

// OtherUsersOf is OtherUsers for several mounts in one go: it takes a look at
// every process of the machine.
func OtherUsersOf(ctx context.Context, mounts []*mountinfo.Info) ([][]User, error) {
	namespace, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	text, err := readTable(ownTable)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	processes, err := numbers("/proc")
	if err != nil {
		return nil, err
	}
	s := scan{
		mounts: mounts, users: make([][]User, len(mounts)),
		namespace: namespace, own: map[string]bool{}, views: map[view]bool{}, found: map[find]bool{},
	}
	for line := range strings.Lines(string(text)) {
		id, _, _ := strings.Cut(line, " ")
		s.own[id] = true
	}
	for _, pid := range processes {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("look for users of mounts: %w", err)
		}
		if err := s.process(pid); err != nil && !gone(err) {
			return nil, fmt.Errorf("look for users of mounts: %w", err)
		}
	}
	return s.users, nil
}

// scan is a search for the users of mounts.
type scan struct {
	mounts    []*mountinfo.Info
	users     [][]User        // of each of mounts
	namespace string          // ours
	own       map[string]bool // IDs of our mounts
	views     map[view]bool   // looked at
	found     map[find]bool   // in users
}

// find is that one of mounts has a user in a namespace.
type find struct {
	mount     int
	namespace string
}

// view is what decides which mounts a thread sees: a mount table shows only
// what lies below the root directory of the thread.
type view struct{ namespace, root string }

func viewOf(dir string) (view, error) {
	namespace, err := os.Readlink(dir + "/ns/mnt")
	if err != nil {
		return view{}, err
	}
	root, err := os.Readlink(dir + "/root")
	if err != nil {
		return view{}, err
	}
	return view{namespace, root}, nil
}

// process looks at the first thread, or at the others if they outlived it.
func (s *scan) process(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	err := s.thread(pid, dir)
	if !gone(err) {
		return err
	}
	threads, err := numbers(filepath.Join(dir, "task"))
	if err != nil {
		return err
	}
	for _, tid := range threads {
		if err := s.thread(pid, filepath.Join(dir, "task", strconv.Itoa(tid))); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

func (s *scan) thread(pid int, dir string) error {
	namespace, err := os.Readlink(dir + "/ns/mnt")
	if namespace == s.namespace && err == nil { // as for most processes of a machine
		return nil
	}
	v, err := viewOf(dir)
	hidden := errors.Is(err, fs.ErrPermission)
	if err != nil && !hidden {
		return err
	}
	if s.views[v] && !hidden {
		return nil
	}
	text, err := readTable(dir + "/mountinfo")
	if err != nil || len(text) == 0 {
		return err
	}
	if hidden { // everybody may see the mounts, and no two namespaces share one
		id, _, _ := strings.Cut(string(text), " ")
		v = view{namespace: id}
		if s.own[id] || s.views[v] {
			return nil
		}
	}
	for i := range s.mounts {
		f := find{i, v.namespace}
		if s.found[f] {
			continue
		}
		u, err := userIn(text, s.mounts[i], pid, dir)
		if err != nil {
			return err
		}
		if u != nil {
			s.users[i] = append(s.users[i], *u)
			s.found[f] = true
		}
	}
	s.views[v] = true
	return nil
}

// userIn returns the thread in dir as a user of the mount, if its mount table
// makes it one.
func userIn(text table, mount *mountinfo.Info, pid int, dir string) (*User, error) {
	mounts, err := text.showing(mount)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if mount.Mountpoint != "" && strings.HasSuffix(m.Mountpoint, mount.Mountpoint) {
			continue
		}
		command, err := os.ReadFile(dir + "/comm")
		if err != nil {
			return nil, err
		}
		return &User{PID: pid, Command: strings.TrimSpace(string(command)), Target: m.Mountpoint}, nil
	}
	return nil, nil
}

// numbers returns the entries of dir that are numbers.
func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			found = append(found, n)
		}
	}
	return found, nil
}

// gone tells whether err says that a process has ended; proc(5) is silent
// about these, fs/proc_namespace.c is not.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
}
