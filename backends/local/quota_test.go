package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/host/quotatest"
)

const size = 8 << 20

// In one test, because it may need a guest.
func TestSize(t *testing.T) {
	if quotatest.Elsewhere(t) {
		return
	}
	for kind, mkfs := range map[string][]string{"ext4": quotatest.Ext4(), "xfs": quotatest.XFS()} {
		t.Run(kind, func(t *testing.T) {
			device := quotatest.Disk(t, mkfs...)
			dir := quotatest.Mount(t, device, kind, "prjquota")
			t.Run("Backend", func(t *testing.T) { testBackend(t, dir) })
			for name, test := range map[string]func(*testing.T, string){
				"Record":       testSizeRecord,
				"Crash":        testSizeCrash,
				"Taken":        testSizeTaken,
				"RemoveLeaves": testSizeRemoveLeaves,
				"Boundary":     testSizeBoundary,
				"Inherited":    testSizeInherited,
				"Foreign":      testSizeForeignHandles,
				"Owner":        testSizeOwner,
				"Deep":         testSizeDeep,
			} {
				t.Run(name, func(t *testing.T) { test(t, poolDir(t, dir)) })
			}
			t.Run("MountedAgain", func(t *testing.T) { testSizeMountedAgain(t, device, dir, kind) })
		})
	}
	t.Run("Refused", testSizeRefused)
}

// testBackend runs the suite, each test in a directory of its own.
func testBackend(t *testing.T, dir string) {
	backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
		path := poolDir(t, dir)
		return backendtest.Fixture{
			Open: func(t *testing.T) backends.Backend { return openPool(t, local.Config{Path: path}) },
			Adopt: func(t *testing.T) string {
				hosttest.Subdir(t, path, "old@40000000")
				return "old@40000000"
			},
			Sizes:    true,
			TakeAway: func(t *testing.T) { moveAway(t, path) },
		}
	})
}

// poolDir makes a directory for one test.
func poolDir(t *testing.T, dir string) string {
	t.Helper()
	path, err := os.MkdirTemp(dir, "pool-")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The handle tells the project, the directory carries it, and removal frees it.
func testSizeRecord(t *testing.T, path string) {
	p, v := sized(t, path)
	dir := openDir(t, filepath.Join(path, v.Handle))
	carried, err := host.ProjectOf(dir)
	if err != nil || !carried.Inherited || carried.ID != number(t, v) {
		t.Errorf("got %+v, %v, want the project of %s", carried, err, v.Handle)
	}
	if q := quotaOf(t, path, v); q.Limit != size || q.Files != 1 {
		t.Errorf("got %+v, want the limit and one directory", q)
	}
	if err := os.WriteFile(filepath.Join(path, v.Handle, "file"), make([]byte, size/2), 0o600); err != nil {
		t.Fatal(err)
	}
	remove(t, p, v.Handle)
	if q := quotaOf(t, path, v); q.Limit != 0 {
		t.Errorf("after removal: got %+v, want no limit", q)
	}
	if plain := plan(t, p, backends.Request{ID: "plain.0123456789ab"}); strings.Contains(plain.Handle, "@") {
		t.Errorf("got %s for a volume without a size", plain.Handle)
	}
}

// Nothing is renamed or linked from one volume into another, so that what is
// counted for one is not in the other.
func testSizeBoundary(t *testing.T, path string) {
	p, v := sized(t, path)
	other := plan(t, p, request())
	create(t, p, other)
	from, to := filepath.Join(path, v.Handle, "file"), filepath.Join(path, other.Handle, "file")
	if err := os.WriteFile(from, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, to); !errors.Is(err, unix.EXDEV) {
		t.Errorf("rename: got %v, want %v", err, unix.EXDEV)
	}
	if err := os.Link(from, to); !errors.Is(err, unix.EXDEV) {
		t.Errorf("link: got %v, want %v", err, unix.EXDEV)
	}
	remove(t, p, v.Handle)
	remove(t, p, other.Handle)
}

// A tree is removed however deep it is, and whatever a container has taken out of its project.
func testSizeDeep(t *testing.T, path string) {
	p, v := sized(t, path)
	deep := filepath.Join(path, v.Handle)
	for i := range 150 {
		deep = hosttest.Subdir(t, deep, "d")
		if i%2 == 0 {
			if err := host.SetProject(openDir(t, deep), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove(t, p, v.Handle)
}

// Who owns a file can take it out of its project, without any privilege; in a
// user namespace nobody can. This is the kernel's doing: docs/quotas.md tells
// users, and would be wrong if it changed.
func testSizeOwner(t *testing.T, path string) {
	p, v := sized(t, path)
	for what, test := range map[string]struct {
		attr *syscall.SysProcAttr
		want uint32
	}{
		"owner":          {&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}, 0},
		"user namespace": {&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}}, number(t, v)},
	} {
		name := filepath.Join(path, v.Handle, what)
		if err := os.WriteFile(name, []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, 1000, 1000); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o711); err != nil {
			t.Fatal(err)
		}
		chattr := exec.CommandContext(t.Context(), "chattr", "-p", "0", what)
		chattr.Dir, chattr.SysProcAttr = filepath.Dir(name), test.attr
		output, err := chattr.CombinedOutput()
		if allowed := test.want == 0; (err == nil) != allowed {
			t.Errorf("%s: chattr: %v: %s", what, err, output)
		}
		if got, err := host.ProjectOf(openDir(t, name)); err != nil || got.ID != test.want {
			t.Errorf("%s: got %+v, %v, want project %d", what, got, err, test.want)
		}
	}
	remove(t, p, v.Handle)
}

// In a directory that passes a project on, a volume can't have its own.
func testSizeInherited(t *testing.T, path string) {
	if err := host.SetProject(openDir(t, path), 77); err != nil {
		t.Fatal(err)
	}
	p := openPool(t, local.Config{Path: filepath.Join(path, "not", "there yet")})
	expectPlanError(t, p, backends.Request{ID: id, Size: size}, backends.ErrInvalid)
	v := plan(t, p, backends.Request{ID: id})
	create(t, p, v)
	remove(t, p, v.Handle)
}

// A volume's name and its plan have to agree.
func testSizeForeignHandles(t *testing.T, path string) {
	p := openPool(t, local.Config{Path: path})
	v := plan(t, p, backends.Request{ID: id, Size: size})
	for _, v := range []backends.Volume{
		{Handle: v.Handle},
		{Handle: "volumes/" + id, Size: size},
		{Handle: "volumes/" + id + "@00000001", Size: size},
		{Handle: "volumes/" + id + "@4000000", Size: size},
		{Handle: "volumes/" + id + "@+4000000", Size: size},
		{Handle: "volumes/" + id + "@40000000@40000000", Size: size},
	} {
		if err := p.Create(t.Context(), v); !errors.Is(err, backends.ErrInvalid) {
			t.Errorf("%+v: got %v, want %v", v, err, backends.ErrInvalid)
		}
	}
	expectPlanError(t, p, backends.Request{ID: "db@40000000", Size: size}, backends.ErrInvalid)
	expectPlanError(t, p, backends.Request{ID: "db@40000000"}, backends.ErrInvalid)
	expectPlanError(t, p, backends.Request{ID: id, Size: -1}, backends.ErrInvalid)
}

// Limits survive the file system's unmount. While it is mounted without
// quotas nothing is reported that doesn't hold, and volumes can be removed.
func testSizeMountedAgain(t *testing.T, device, dir, kind string) {
	path := poolDir(t, dir)
	p, v := sized(t, path)
	other := plan(t, p, request())
	create(t, p, other)
	quotatest.Remount(t, device, dir, kind, "prjquota")
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Size != size || info.Used < 0 {
		t.Errorf("mounted again: got %+v, %v", info, err)
	}

	quotatest.Remount(t, device, dir, kind, "")
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Size != 0 {
		t.Errorf("mounted without: got %+v, %v, want no limit", info, err)
	}
	var log bytes.Buffer
	logged, err := local.Open(local.Config{Path: path}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	target := hosttest.Dir(t)
	if err := logged.Mount(t.Context(), v.Handle, target, backends.MountOptions{}); err != nil {
		t.Errorf("mount without: %v", err)
	}
	if !strings.Contains(log.String(), v.Handle) || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("got log %q, want it to tell that the volume has no limit", &log)
	}
	if err := logged.Unmount(t.Context(), v.Handle, target); err != nil {
		t.Fatal(err)
	}
	late := backends.Volume{Handle: strings.Replace(v.Handle, "db", "late", 1), Size: size}
	if err := p.Create(t.Context(), late); !errors.Is(err, backends.ErrInvalid) {
		t.Errorf("create without: got %v, want %v", err, backends.ErrInvalid)
	}
	remove(t, p, late.Handle)
	remove(t, p, other.Handle)
	quotatest.Remount(t, device, dir, kind, "prjquota")
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Size != size {
		t.Errorf("mounted with again: got %+v, %v", info, err)
	}
	remove(t, p, v.Handle)
}

// The refusal says what to do, and that helps.
func testSizeRefused(t *testing.T) {
	for _, test := range []struct {
		name          string
		mkfs          []string
		kind, options string
		want          string // with DEVICE; in quotes a command for the unmounted file system
	}{
		{"ext4", []string{"mkfs.ext4", "-q"}, "ext4", "", `"tune2fs -O project,quota -Q prjquota DEVICE"`},
		{"ext4 that only counts", quotatest.Ext4(), "ext4", "", `"mount -o prjquota DEVICE"`},
		{"xfs", quotatest.XFS(), "xfs", "", `"mount -o pquota DEVICE"`},
		{"xfs that only counts", quotatest.XFS(), "xfs", "pqnoenforce", `"mount -o pquota DEVICE"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			device := quotatest.Disk(t, test.mkfs...)
			dir := quotatest.Mount(t, device, test.kind, test.options)
			p := openPool(t, local.Config{Path: filepath.Join(dir, "pool")})
			want := strings.ReplaceAll(test.want, "DEVICE", device)
			_, err := p.Plan(t.Context(), backends.Request{ID: id, Size: size})
			if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Fatalf("got %v, want it to say %s", err, want)
			}
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			command, options := strings.Fields(strings.Trim(want, `"`)), "prjquota"
			if command[0] == "mount" {
				options = command[2]
			} else if output, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, output)
			}
			quotatest.Remount(t, device, dir, test.kind, options)
			plan(t, p, request())
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Plan(t.Context(), request()); !errors.Is(err, backends.ErrUnavailable) && test.kind == "ext4" { // XFS has quotas nevertheless
				t.Errorf("read-only: got %v, want %v", err, backends.ErrUnavailable)
			}
		})
	}
}

// request asks for a volume with a size. Its ID is new, as IDs are: XFS goes on
// counting what was deleted for a moment.
func request() backends.Request {
	return backends.Request{ID: fmt.Sprintf("db.%012x", rand.Uint64()>>16), Size: size}
}

// sized returns a pool with a volume that has a size.
func sized(t *testing.T, path string) (*local.Pool, backends.Volume) {
	t.Helper()
	p := openPool(t, local.Config{Path: path})
	v := plan(t, p, request())
	create(t, p, v)
	return p, v
}

// number reads the project in a handle.
func number(t *testing.T, v backends.Volume) uint32 {
	t.Helper()
	digits := regexp.MustCompile("@[4-7][0-9a-f]{7}$").FindString(v.Handle)
	if digits == "" {
		t.Fatalf("handle %s has no project", v.Handle)
	}
	n, err := strconv.ParseUint(digits[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func quotaOf(t *testing.T, path string, v backends.Volume) host.ProjectQuota {
	t.Helper()
	q, err := host.QuotaOf(openDir(t, path), number(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}
