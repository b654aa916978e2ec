package migrate

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// copyAttributes gives the entry name of to the owner, mode, extended
// attributes (ACLs and capabilities are among them) and times of that in from,
// which st describes. The order matters: a change of owner takes capabilities
// away, and a change of mode changes the ACL.
func copyAttributes(from, to *os.File, name string, st *unix.Stat_t) error {
	fd := int(to.Fd())
	if err := unix.Fchownat(fd, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(fd, name, st.Mode&0o7777, 0); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	attributes, err := xattrs(from, name)
	if err != nil {
		return err
	}
	for _, a := range slices.Sorted(maps.Keys(attributes)) {
		if err := unix.Lsetxattr(at(to, name), a, []byte(attributes[a]), 0); err != nil && !(isLabel(a) && errors.Is(err, unix.ENOTSUP)) {
			return fmt.Errorf("set extended attribute %s, which the pool's file system may not have: %w", a, err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(fd, name, times, unix.AT_SYMLINK_NOFOLLOW))
}

// isLabel tells attributes by which a security module goes, such as SELinux, which has rules
// for files that come without. Not each storage can have them.
func isLabel(a string) bool { return strings.HasPrefix(a, "security.") && a != "security.capability" }

// at is a path to the entry name of dir, for system calls that take no
// directory. It does not follow a symbolic link at its end.
func at(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/thread-self/fd/%d/%s", dir.Fd(), name)
}

// xattrs returns the extended attributes of the entry name of dir, but for those in which XFS
// has its ACLs, as it has them: they are among the others, too.
func xattrs(dir *os.File, name string) (map[string]string, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Llistxattr(at(dir, name), b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	all := make(map[string]string)
	for a := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if a == "" || strings.HasPrefix(a, "trusted.SGI_ACL_") {
			continue
		}
		if all[a], err = sized(func(b []byte) (int, error) { return unix.Lgetxattr(at(dir, name), a, b) }); err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", a, err)
		}
	}
	return all, nil
}

// sized calls read with room for as much as it says there is.
func sized(read func([]byte) (int, error)) (string, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return "", err
		}
		b := make([]byte, n)
		n, err = read(b)
		if errors.Is(err, unix.ERANGE) { // it grew
			continue
		}
		if err != nil {
			return "", err
		}
		return string(b[:n]), nil
	}
}
