package fuseclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// bound are the mounts in this mount namespace that show the client's file system,
// but for its own.
func (c *Client) bound() ([]*mountinfo.Info, error) {
	mounts, err := host.Mounts()
	if err != nil {
		return nil, err
	}
	var bound []*mountinfo.Info
	for _, m := range mounts {
		if m.Major == c.major && m.Minor == c.minor && m.Mountpoint != c.Mountpoint {
			bound = append(bound, m)
		}
	}
	return bound, nil
}

// clear takes away what a client that has ended had mounted at point, unless a
// volume shows it.
func (s *Shared) clear(point string) (gone bool, err error) {
	m, err := host.MountedAt(point)
	if err != nil || m == nil {
		return false, err
	}
	bound, err := (&Client{Mountpoint: point, major: m.Major, minor: m.Minor}).bound()
	if err != nil || len(bound) > 0 {
		return false, err
	}
	if err := unmountDead(point); err != nil {
		return false, err
	}
	return true, host.RemoveMountpoint(point)
}

// heal has a client that runs serve the volumes of one that has ended: here and
// in the containers that have them. There, what is opened from then on is the
// storage again; what was open when the client ended stays dead.
func (s *Shared) heal(ctx context.Context, point string, now *Client) error {
	m, err := host.MountedAt(point)
	if err != nil || m == nil {
		return err
	}
	dead := &Client{Mountpoint: point, major: m.Major, minor: m.Minor}
	bound, err := dead.bound()
	if err != nil {
		return err
	}
	users, err := host.OtherUsersOf(ctx, bound)
	if err != nil {
		return err
	}
	root, err := os.OpenFile(now.Mountpoint, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	var failures []error
	for i, b := range bound {
		if err := healOne(root, b, users[i]); err != nil {
			failures = append(failures, err)
			continue
		}
		s.log.Warn("volume is served by a new client, for the one before has ended", "mountpoint", b.Mountpoint, "process", now.PID, "containers", len(users[i]))
	}
	if len(failures) > 0 { // the mountpoint stays, to be found again
		return errors.Join(failures...)
	}
	if err := unmountDead(point); err != nil {
		return err
	}
	return host.RemoveMountpoint(point)
}

// healOne has the file system that root is of take the place of a dead one in a
// mount, and in the mount namespaces of others.
func healOne(root *os.File, m *mountinfo.Info, users []host.User) error {
	dir := root
	if below := strings.Trim(m.Root, "/"); below != "" {
		d, err := host.OpenWithin(root, below, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer d.Close()
		dir = d
	}
	var failures []error
	for _, u := range users {
		if err := healIn(dir, m, u); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			failures = append(failures, fmt.Errorf("in the mount namespace of process %d (%s): %w", u.PID, u.Command, err))
		}
	}
	// Over it, not in its place: there is no moment in which the directory beneath
	// is bare. Whoever unmounts the volume takes both away.
	err := host.BindOver(dir, nil, m, host.IsReadOnly(m))
	if errors.Is(err, host.ErrHidden) { // it was healed before
		err = nil
	}
	return errors.Join(append(failures, err)...)
}

// healIn lays dir over what a process has of a dead mount.
func healIn(dir *os.File, dead *mountinfo.Info, u host.User) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", u.PID))
	if err != nil {
		return err
	}
	defer namespace.Close()
	table, err := host.ReadMountTable(namespace)
	if err != nil {
		return err
	}
	shown, err := table.Of(dead.Major, dead.Minor)
	if err != nil {
		return err
	}
	var failures []error
	for _, m := range shown {
		if m.Root != dead.Root { // a directory below that, by volume-subpath: it stays dead
			continue
		}
		err := host.BindOver(dir, namespace, m, host.IsReadOnly(m))
		if errors.Is(err, host.ErrHidden) { // it was healed before
			err = nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}
