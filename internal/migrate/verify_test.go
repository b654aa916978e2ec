package migrate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// Whatever is done to a copy, the comparison sees it.
func TestComparisonSeesEveryDifference(t *testing.T) {
	dir := original(t)
	stamp := unix.NsecToTimespec(1)
	for what, spoil := range map[string]func(path string) error{
		"data": func(p string) error {
			return keepTime(p+"/dir/program", func(p string) error { return write(p, 2<<20, "y") })
		},
		"data in a hole": func(p string) error {
			return keepTime(p+"/sparse", func(p string) error { return write(p, 700<<20, "y") })
		},
		"data lost": func(p string) error {
			return keepTime(p+"/sparse", func(p string) error { return write(p, 512<<20, "\x00") })
		},
		"size": func(p string) error { return keepTime(p+"/file", func(p string) error { return os.Truncate(p, 3) }) },
		"device": func(p string) error {
			var st unix.Stat_t
			return keepTime(p, func(p string) error {
				return errors.Join(unix.Lstat(dir+"/null", &st), os.Remove(p+"/null"), unix.Mknod(p+"/null", unix.S_IFCHR, int(unix.Mkdev(1, 5))),
					copyAttributes(open(t, dir), open(t, p), "null", &st))
			})
		},
		"mode":    func(p string) error { return os.Chmod(p+"/pipe", 0o640) },
		"owner":   func(p string) error { return os.Lchown(p+"/symlink", 1, 1) },
		"time":    func(p string) error { return unix.UtimesNano(p+"/null", []unix.Timespec{stamp, stamp}) },
		"missing": func(p string) error { return keepTime(p, func(p string) error { return os.Remove(p + "/socket") }) },
		"more": func(p string) error {
			return keepTime(p, func(p string) error { return os.WriteFile(p+"/new", nil, 0o600) })
		},
		"xattr":      func(p string) error { return unix.Lsetxattr(p+"/file", "user.note", []byte("z"), 0) },
		"xattr more": func(p string) error { return unix.Lsetxattr(p+"/dir", "user.more", nil, 0) },
		"xattr less": func(p string) error { return unix.Lremovexattr(p+"/dir/program", "security.capability") },
		"capability": func(p string) error { return unix.Lsetxattr(p+"/sparse", "security.capability", capability(), 0) },
		"link": func(p string) error {
			return keepTime(p+"/dir", func(string) error {
				return keepTime(p+"/file", func(f string) error { return unlink(t, f, p+"/dir/link") })
			})
		},
		"target": func(p string) error { return retarget(p + "/symlink") },
	} {
		to := hosttest.Dir(t)
		_, err := new(Migrator).transfer(t.Context(), open(t, dir), to)
		must(t, err, spoil(to))
		v := verifier{links: map[inode]inode{}, back: map[inode]inode{}}
		if err := v.dir(t.Context(), open(t, dir), open(t, to), "."); !errors.Is(err, errDiffers) {
			t.Errorf("another %s: %v, want %v", what, err, errDiffers)
		}
	}
}

// keepTime changes a file behind the back of its time.
func keepTime(path string, change func(string) error) error {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	return errors.Join(err, change(path), unix.UtimesNano(path, []unix.Timespec{st.Atim, st.Mtim}))
}

func write(path string, at int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Close())
}

// unlink makes link a file of its own, equal to file.
func unlink(t *testing.T, file, link string) error {
	t.Helper()
	from, to := open(t, filepath.Dir(file)), open(t, filepath.Dir(link))
	var st unix.Stat_t
	err := errors.Join(unix.Stat(file, &st), os.Remove(link), os.WriteFile(link, []byte("text"), 0o600))
	if err != nil {
		return err
	}
	if filepath.Base(file) != "file" {
		return errors.New("not the file that it is made for")
	}
	if err := os.Rename(link, filepath.Dir(link)+"/file"); err != nil {
		return err
	}
	return errors.Join(copyAttributes(from, to, "file", &st), os.Rename(filepath.Dir(link)+"/file", link))
}

func retarget(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	return keepTime(dir, func(string) error {
		return errors.Join(os.Remove(path), os.Symlink("/nowhere/../at//ALL", path), os.Lchown(path, 7, 8),
			unix.Lsetxattr(path, "trusted.note", []byte("c"), 0),
			unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
	})
}

// A write between the first and the last look at the original is noticed, also
// if it hides itself.
func TestChangedOriginalIsNoticed(t *testing.T) {
	dir := original(t)
	before, err := fingerprint(t.Context(), open(t, dir))
	must(t, err)
	if again, err := fingerprint(t.Context(), open(t, dir)); err != nil || again != before {
		t.Errorf("fingerprint changed without a cause (%v)", err)
	}
	must(t, keepTime(dir+"/dir/program", func(p string) error { return write(p, 5, "y") }))
	if after, err := fingerprint(t.Context(), open(t, dir)); err != nil || after == before {
		t.Errorf("fingerprint is the same after a write (%v)", err)
	}
}
