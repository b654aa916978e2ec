package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/host/quotatest"
	"github.com/dvol/dvold/internal/volumes"
)

// volume makes a directory as that of a volume's data, with a name of its own:
// another run of these tests must not be taken for a user of it.
func volume(t *testing.T) string {
	t.Helper()
	dir := hosttest.Dir(t)
	return hosttest.Subdir(t, dir, filepath.Base(dir)+"/_data")
}

// original makes a tree with files of all kinds.
func original(t *testing.T) string {
	t.Helper()
	hosttest.Root(t)
	dir := volume(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t,
		os.Mkdir(path("dir"), 0o700),
		os.Mkdir(path("dir/empty"), 0o700),
		os.WriteFile(path("file"), []byte("text"), 0o600),
		os.WriteFile(path("dir/program"), []byte(strings.Repeat("x", 3<<20)), 0o600),
		os.WriteFile(path("name\nwith \xff all"), nil, 0o600),
		os.Link(path("file"), path("dir/link")),
		os.Symlink("/nowhere/../at//all", path("symlink")),
		unix.Mkfifo(path("pipe"), 0o620),
		unix.Mknod(path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		unix.Mknod(path("socket"), unix.S_IFSOCK|0o755, 0),
		sparse(path("sparse")),
		os.Lchown(path("symlink"), 7, 8),
		os.Chown(path("dir/program"), 12, 34),
		os.Chmod(path("dir/program"), 0o755|os.ModeSetuid),
		os.Chmod(path("dir"), 0o770|os.ModeSetgid|os.ModeSticky),
		unix.Lsetxattr(path("file"), "user.note", []byte("a\x00b"), 0),
		unix.Lsetxattr(path("symlink"), "trusted.note", []byte("c"), 0),
		unix.Lsetxattr(path("dir/program"), "security.capability", capability(), 0),
		unix.Lsetxattr(path("dir"), "system.posix_acl_default", acl(), 0),
		unix.Lsetxattr(path("file"), "system.posix_acl_access", acl(), 0),
		os.Chown(dir, 99, 98),
		os.Chmod(dir, 0o750),
	)
	stamp := time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)
	for _, name := range []string{"dir", "file", "null", "."} {
		must(t, os.Chtimes(path(name), stamp.Add(time.Hour), stamp))
	}
	times := []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 7, Nsec: 8}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path("symlink"), times, unix.AT_SYMLINK_NOFOLLOW))
	return dir
}

// sparse makes a file of 1 GiB with little in it.
func sparse(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("middle"), 512<<20)
	return errors.Join(err, f.Truncate(1<<30), f.Close())
}

// capability is cap_net_raw+ep, as linux/capability.h has it.
func capability() []byte {
	return []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
}

// acl is u::rwx,u:1000:rw-,g::r-x,m::rwx,o::---, as linux/posix_acl_xattr.h has
// it.
func acl() []byte {
	entry := func(tag, perm byte, id uint32) []byte {
		return []byte{tag, 0, perm, 0, byte(id), byte(id >> 8), byte(id >> 16), byte(id >> 24)}
	}
	const none = 1<<32 - 1
	b := []byte{2, 0, 0, 0}
	for _, e := range [][]byte{entry(1, 7, none), entry(2, 6, 1000), entry(4, 5, none), entry(16, 7, none), entry(32, 0, none)} {
		b = append(b, e...)
	}
	return b
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, readDir, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCopyHasEverything(t *testing.T) {
	dir, to := original(t), hosttest.Dir(t)
	before := dump(t, dir, true)
	var a, b unix.Stat_t
	must(t, unix.Stat(dir, &a))
	result, err := new(Migrator).transfer(t.Context(), open(t, dir), to)
	must(t, err, unix.Stat(to, &b))
	if a.Atim != b.Atim {
		t.Errorf("access time of the copy: %v, want %v", b.Atim, a.Atim)
	}
	if got := dump(t, to, false); got != dump(t, dir, false) {
		t.Errorf("copy:\n%s\noriginal:\n%s", got, dump(t, dir, false))
	}
	if after := dump(t, dir, true); after != before {
		t.Errorf("original became:\n%s\nwas:\n%s", after, before)
	}
	if result.Files != 11 || result.Bytes < 3<<20+10 || result.Bytes > 4<<20 {
		t.Errorf("result = %+v, want 11 files, and 3 MiB and a bit", result)
	}
	must(t, unix.Stat(filepath.Join(to, "file"), &a), unix.Stat(filepath.Join(to, "dir/link"), &b))
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("link in the copy: inodes %d and %d with %d links, want one with 2", a.Ino, b.Ino, a.Nlink)
	}
	must(t, unix.Stat(filepath.Join(to, "sparse"), &a))
	if a.Blocks*512 > 1<<20 {
		t.Errorf("sparse file takes %d bytes", a.Blocks*512)
	}
}

// XFS names each ACL a second time, in a way of its own.
func TestCopyToAndFromXFS(t *testing.T) {
	dir := original(t)
	mkfs := quotatest.XFS()
	_, err := exec.LookPath(mkfs[0])
	hosttest.Need(t, mkfs[0], err == nil)
	disk := quotatest.Mount(t, quotatest.Disk(t, mkfs...), "xfs", "")
	there, back := hosttest.Subdir(t, disk, "volume/_data"), hosttest.Dir(t)
	_, err = new(Migrator).transfer(t.Context(), open(t, dir), there)
	must(t, err)
	_, err = new(Migrator).transfer(t.Context(), open(t, there), back)
	must(t, err)
	if got := dump(t, back, false); got != dump(t, dir, false) {
		t.Errorf("copy:\n%s\noriginal:\n%s", got, dump(t, dir, false))
	}
}

// A label that the storage can't have is left out; nothing else is.
func TestCopyToWhereThereAreNoAttributes(t *testing.T) {
	hosttest.Root(t)
	dir := volume(t)
	must(t, os.WriteFile(dir+"/file", []byte("text"), 0o600), unix.Lsetxattr(dir+"/file", "security.selinux", []byte("system_u:object_r:container_file_t:s0\x00"), 0))
	copied := func() error {
		to := hosttest.Subdir(t, hosttest.Dir(t), "ramfs")
		must(t, unix.Mount("dvold-test", to, "ramfs", 0, ""))
		_, err := new(Migrator).transfer(t.Context(), open(t, dir), to)
		return err
	}
	must(t, copied())
	must(t, unix.Lsetxattr(dir+"/file", "user.note", []byte("a"), 0))
	if err := copied(); !errors.Is(err, unix.ENOTSUP) {
		t.Errorf("copy without an attribute: %v, want %v", err, unix.ENOTSUP)
	}
}

// Where each file is synced by itself, that is the last thing done to it:
// nothing would make durable what comes after.
func TestFilesAreSyncedWithTheirAttributes(t *testing.T) {
	dir, to := original(t), open(t, hosttest.Dir(t))
	synced := map[string]string{}
	state := func(path string) string {
		names := make([]byte, 4096)
		n, _ := unix.Llistxattr(path, names)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		return fmt.Sprintf("%o %d:%d %d %v %q", st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, slices.Sorted(strings.SplitSeq(string(names[:n]), "\x00")))
	}
	c := copier{root: to, links: map[inode]string{}, sync: func(f *os.File) error {
		synced[f.Name()] = state(f.Name())
		return f.Sync()
	}}
	must(t, c.dir(t.Context(), open(t, dir), to, "."))
	for _, name := range []string{".", "dir", "dir/empty", "dir/link", "dir/program", "sparse"} { // file is a link of dir/link
		path := filepath.Join(to.Name(), name)
		if got, want := synced[path], state(filepath.Join(dir, name)); got != want {
			t.Errorf("%s, when it was synced: %s, want %s", name, got, want)
		}
	}
}

// dump describes a tree, written with other means than the copy.
func dump(t *testing.T, dir string, access bool) string {
	t.Helper()
	var s strings.Builder
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			st.Size, st.Nlink = 0, 0
		}
		fmt.Fprintf(&s, "%q %o %d:%d %d %d %x %v", strings.TrimPrefix(path, dir), st.Mode, st.Uid, st.Gid, st.Size, st.Nlink, st.Rdev, st.Mtim)
		if kind := st.Mode & unix.S_IFMT; access && kind != unix.S_IFDIR && kind != unix.S_IFLNK { // reading these can't be hidden
			fmt.Fprintf(&s, " %v %v", st.Atim, st.Ctim)
		}
		target, _ := os.Readlink(path)
		names := make([]byte, 4096)
		n, _ := unix.Llistxattr(path, names)
		for _, name := range slices.Sorted(strings.SplitSeq(string(names[:n]), "\x00")) {
			value := make([]byte, 4096)
			n, _ := unix.Lgetxattr(path, name, value)
			fmt.Fprintf(&s, " %s=%x", name, value[:max(n, 0)])
		}
		fmt.Fprintf(&s, " %q\n", target)
		return nil
	})
	must(t, err)
	return s.String()
}

// What happens in the midst of a copy, and what that ends with.
func TestWhatHappensMeanwhile(t *testing.T) {
	for what, test := range map[string]struct {
		step string
		do   func(from, to string)
		want error
	}{
		"original is written to": {"copy: copied", func(from, _ string) {
			must(t, keepTime(from+"/dir/program", func(p string) error { return write(p, 5, "y") }))
		}, volumes.ErrInUse},
		"original is written to after the comparison": {"copy: compared", func(from, _ string) {
			must(t, keepTime(from+"/dir/program", func(p string) error { return write(p, 5, "y") }))
		}, volumes.ErrInUse},
		"original loses a file": {"copy: copied", func(from, _ string) { must(t, os.Remove(from+"/file")) }, volumes.ErrInUse},
		"original is opened":    {"copy: compared", func(from, _ string) { use(t, from) }, volumes.ErrInUse},
		"copy is not what was written": {"copy: copied", func(_, to string) {
			must(t, keepTime(to+"/dir/program", func(p string) error { return write(p, 5, "y") }))
		}, errDiffers},
		"nothing": {"copy: copied", func(string, string) {}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			from, to := original(t), hosttest.Dir(t)
			reached := false
			m := &Migrator{atStep: func(step string) {
				if step == test.step {
					reached = true
					test.do(from, to)
				}
			}}
			_, err := m.transfer(t.Context(), open(t, from), to)
			if !reached || !errors.Is(err, test.want) || errors.Is(test.want, errDiffers) && errors.Is(err, volumes.ErrInUse) {
				t.Errorf("%v (%q reached: %t), want %v", err, test.step, reached, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q takes several lines", err)
			}
		})
	}
}

// A container can make a tree of any depth, and a walk through one takes memory
// for each level.
func TestDeepTreeIsRefused(t *testing.T) {
	hosttest.Root(t)
	for depth, want := range map[int]error{maxDepth: nil, 5000: volumes.ErrInvalid} {
		// Whoever looks for users of another volume could not tell a path that is too long from one in that, on its file system.
		own := hosttest.Tmpfs(t, "")
		dir, to := hosttest.Subdir(t, own, "from"), hosttest.Subdir(t, own, "to")
		nest(t, dir, depth)
		if _, err := new(Migrator).transfer(t.Context(), open(t, dir), to); !errors.Is(err, want) {
			t.Errorf("copy of %d levels: %.500v, want %v", depth, err, want)
		}
		if made, err := os.ReadDir(to); err != nil || want != nil && len(made) > 0 {
			t.Errorf("copy of %d levels left %v (%v)", depth, made, err)
		}
	}
	// Should it become that deep while it is copied, that ends, too.
	rel := strings.Repeat("a/", maxDepth) + "a"
	c := copier{}
	v := verifier{links: map[inode]inode{}, back: map[inode]inode{}}
	dir := open(t, hosttest.Dir(t))
	for what, err := range map[string]error{"copy": c.dir(t.Context(), dir, dir, rel), "comparison": v.dir(t.Context(), dir, dir, rel)} {
		if !errors.Is(err, volumes.ErrInvalid) {
			t.Errorf("%s at level %d: %v, want %v", what, maxDepth+1, err, volumes.ErrInvalid)
		}
	}
}

// nest makes directories in dir, each in the one before.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, "a long name for a directory", 0o755))
		next, err := unix.Openat(fd, "a long name for a directory", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
}

func TestCopyEndsWithItsContext(t *testing.T) {
	dir := original(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(Migrator).transfer(ctx, open(t, dir), hosttest.Dir(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("copy: %v, want %v", err, context.Canceled)
	}
}
