package host_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/host/quotatest"
)

func TestQuotas(t *testing.T) {
	if quotatest.Elsewhere(t) {
		return
	}
	for kind, mkfs := range map[string][]string{"ext4": quotatest.Ext4(), "xfs": quotatest.XFS()} {
		t.Run(kind, func(t *testing.T) {
			dir := quotatest.Mount(t, quotatest.Disk(t, mkfs...), kind, "prjquota")
			root := open(t, dir)
			expectState(t, root, host.QuotaEnforced)
			expectQuota(t, root, 4711, host.ProjectQuota{})
			for _, limit := range []int64{1, 5 << 20, 5<<20 + 1, math.MaxInt64} {
				if err := host.SetLimit(root, 4711, limit); err != nil {
					t.Errorf("limit %d: %v", limit, err)
				}
				want := min(limit, math.MaxInt64&^1023)
				if q, err := host.QuotaOf(root, 4711); err != nil || q.Limit < want || q.Limit-want >= 4096 {
					t.Errorf("limit %d: got %+v, %v", limit, q, err)
				}
			}
			if err := host.SetLimit(root, 4711, 0); err != nil {
				t.Error(err)
			}
			expectQuota(t, root, 4711, host.ProjectQuota{})
			testProject(t, root)
		})
	}
	t.Run("Counted", func(t *testing.T) {
		dir := quotatest.Mount(t, quotatest.Disk(t, quotatest.Ext4()...), "ext4", "")
		expectState(t, open(t, dir), host.QuotaCounted)
	})
	t.Run("Off", func(t *testing.T) {
		ext4 := quotatest.Mount(t, quotatest.Disk(t, "mkfs.ext4", "-q"), "ext4", "")
		expectState(t, open(t, ext4), host.QuotaOff)
		xfs := quotatest.Mount(t, quotatest.Disk(t, quotatest.XFS()...), "xfs", "")
		expectState(t, open(t, xfs), host.QuotaOff)
		users := quotatest.Mount(t, quotatest.Disk(t, quotatest.XFS()...), "xfs", "uquota")
		expectState(t, open(t, users), host.QuotaOff)
		unlimited := quotatest.Mount(t, quotatest.Disk(t, quotatest.XFS()...), "xfs", "pqnoenforce")
		expectState(t, open(t, unlimited), host.QuotaCounted)
	})
}

// A directory's project is inherited and counted.
func testProject(t *testing.T, root *os.File) {
	t.Helper()
	dir := open(t, hosttest.Subdir(t, root.Name(), "project"))
	const project = 1<<32 - 2
	for range 2 {
		if err := host.SetProject(dir, project); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir.Name(), "file"), string(make([]byte, 1<<20)))
	sub := open(t, hosttest.Subdir(t, dir.Name(), "sub"))
	file := open(t, filepath.Join(dir.Name(), "file"))
	for f, want := range map[*os.File]host.Project{dir: {project, true}, sub: {project, true}, file: {project, false}, root: {}} {
		if got, err := host.ProjectOf(f); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", f.Name(), got, err, want)
		}
	}
	if err := unix.Syncfs(int(root.Fd())); err != nil { // what is not allocated yet is not counted everywhere
		t.Fatal(err)
	}
	q, err := host.QuotaOf(root, project)
	if err != nil || q.Limit != 0 || q.Files != 3 || q.Used < 1<<20 || q.Used > 2<<20 {
		t.Errorf("got %+v, %v, want 3 files and 1 MiB", q, err)
	}
}

// Where there are no projects that is no error, but setting one is.
func TestNoQuotas(t *testing.T) {
	hosttest.Root(t)
	dir := open(t, hosttest.Tmpfs(t, ""))
	expectState(t, dir, host.QuotaOff)
	if got, err := host.ProjectOf(dir); err != nil || got != (host.Project{}) {
		t.Errorf("got %+v, %v, want no project", got, err)
	}
	_, err := host.QuotaOf(dir, 1)
	for what, err := range map[string]error{"limit": host.SetLimit(dir, 1, 1), "quota": err, "project": host.SetProject(dir, 1)} {
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func expectState(t *testing.T, f *os.File, want host.QuotaState) {
	t.Helper()
	if got, err := host.ProjectQuotas(f); err != nil || got != want {
		t.Errorf("state: got %v, %v, want %v", got, err, want)
	}
}

func expectQuota(t *testing.T, f *os.File, project uint32, want host.ProjectQuota) {
	t.Helper()
	if got, err := host.QuotaOf(f, project); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}
