//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestSubvolumeConformance(t *testing.T) {
	need(t)
	backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
		run, group := hosttest.Dir(t), newGroup(t, "")
		return backendtest.Fixture{
			Open: func(t *testing.T) backends.Backend { return open(t, run, inGroup(t, group)) },
			Adopt: func(t *testing.T) string {
				name := fmt.Sprintf("adopt-me_%08x", rand.Uint32())
				subvolume(t, group, "create", name)
				return name
			},
			Sizes: true, SizesUnseen: true, Lags: 10 * time.Second,
			TakeAway: func(t *testing.T) { cephtest.CutOff(t) }, Believes: fuseclient.AnswerHolds,
		}
	})
}

// newGroup makes a group of sub-volumes, which to the manager is a directory; "" is one of
// any name.
func newGroup(t *testing.T, name string) string {
	t.Helper()
	if name == "" {
		name = fmt.Sprintf("group-%08x", rand.Uint32())
	}
	if err := os.MkdirAll(filepath.Join(root(t), "volumes", name), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// inGroup has a pool's volumes be sub-volumes.
func inGroup(t *testing.T, group string) func(*cephfs.Config) {
	return func(c *cephfs.Config) {
		c.Cluster = cephtest.Config(t, "subvolumes")
		c.SubvolumeGroup, c.MountTimeout = group, 5*time.Second
		c.Fencer, c.FencerKeyring = "evictor", cephtest.Keyring("evictor")
	}
}

// newGroupPool is a pool whose volumes are sub-volumes.
func newGroupPool(t *testing.T) *pool {
	need(t)
	run, group := hosttest.Dir(t), newGroup(t, "")
	return &pool{t: t, run: run, subdir: "volumes/" + group, Pool: open(t, run, inGroup(t, group))}
}

// subvolume gives a command for a sub-volume as the administrator.
func subvolume(t *testing.T, group, command, name string, args ...string) string {
	t.Helper()
	args = append([]string{"fs", "subvolume"}, append(strings.Fields(command), append([]string{"cephfs", name}, args...)...)...)
	return strings.TrimSpace(cephtest.Admin(t, "ceph", append(args, "--group_name", group)...))
}

func (p *pool) group() string { return filepath.Base(p.subdir) }

// where is the directory of a volume's sub-volume, for another client.
func (p *pool) where(handle string) string { return filepath.Join(root(p.t), p.subdir, handle) }

// sized plans a volume with a size.
func (p *pool) sized(name string, size int64) backends.Volume {
	p.t.Helper()
	mode, owner := fs.ModeSticky|0o770, 1234
	v, err := p.Plan(p.t.Context(), backends.Request{ID: name + ".0123456789ab", Size: size, UID: &owner, GID: &owner, Mode: &mode})
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// wantWhole fails unless a volume of sized is there, as planned and empty, and no more than
// its data.
func (p *pool) wantWhole(v backends.Volume) {
	p.t.Helper()
	info, err := p.Stat(p.t.Context(), v.Handle)
	if err != nil || info.Size != v.Size || info.Used != 0 {
		p.t.Errorf("%s: %+v, %v", v.Handle, info, err)
	}
	target := p.mount(v.Handle, backends.MountOptions{})
	defer func() {
		if err := p.Unmount(p.t.Context(), v.Handle, target); err != nil {
			p.t.Error(err)
		}
	}()
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil || st.Uid != 1234 || st.Gid != 1234 || st.Mode != unix.S_IFDIR|unix.S_ISVTX|0o770 {
		p.t.Errorf("%s: owner %d:%d, mode %o, %v", v.Handle, st.Uid, st.Gid, st.Mode, err)
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
		p.t.Errorf("%s: %v, %v", v.Handle, entries, err)
	}
	p.write(target, "x")
	if there, err := filepath.Glob(p.where(v.Handle) + "/*-*-*-*-*/file"); err != nil || len(there) != 1 { // in a UUID
		p.t.Errorf("%s: what was written is at %v, %v", v.Handle, there, err)
	}
}

// A volume is a sub-volume to the manager, with its size, and to containers its data
// alone, whose size no container can change. Others in the group stay as they are.
func TestSubvolume(t *testing.T) {
	p := newGroupPool(t)
	group := p.group()
	subvolume(t, group, "create", "foreign", "--size", "7000000", "--mode", "751")
	foreign := filepath.Join(root(t), subvolume(t, group, "getpath", "foreign"))
	if err := os.WriteFile(filepath.Join(foreign, "file"), []byte("theirs"), 0o640); err != nil {
		t.Fatal(err)
	}
	v := p.sized("mine", 8<<20)
	if err := p.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	p.wantWhole(v)
	if info := subvolume(t, group, "info", v.Handle); !strings.Contains(info, `"bytes_quota": 8388608`) || !strings.Contains(info, `"path": "/volumes/`+group+"/"+v.Handle+"/") {
		t.Error(info)
	}
	target := p.mount(v.Handle, backends.MountOptions{})
	if err := unix.Setxattr(target, "ceph.quota.max_bytes", []byte("0"), 0); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		t.Errorf("set a quota as a container might: %v", err)
	}
	if err := p.Resize(t.Context(), v.Handle, 0); err != nil {
		t.Fatal(err)
	}
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Size != 0 {
		t.Errorf("without a limit: %+v, %v", info, err)
	}
	if err := p.Unmount(t.Context(), v.Handle, target); err != nil {
		t.Fatal(err)
	}

	// One with snapshots is used by whoever made them.
	subvolume(t, group, "snapshot create", v.Handle, "mine")
	if err := p.Remove(t.Context(), v.Handle); !errors.Is(err, backends.ErrInUse) || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("remove one with snapshots: %v", err)
	}
	p.want(p.mount(v.Handle, backends.MountOptions{}), "x")
	if err := p.Unmount(t.Context(), v.Handle, target); err != nil {
		t.Fatal(err)
	}
	subvolume(t, group, "snapshot rm", v.Handle, "mine")
	for range 2 {
		if err := p.Remove(t.Context(), v.Handle); err != nil {
			t.Fatal(err)
		}
	}
	if info := subvolume(t, group, "info", "foreign"); !strings.Contains(info, `"bytes_quota": 7000000`) || !strings.Contains(info, `"mode": 16873`) {
		t.Error(info)
	}
	if text, err := os.ReadFile(filepath.Join(foreign, "file")); err != nil || string(text) != "theirs" {
		t.Errorf("of another's sub-volume: %q, %v", text, err)
	}
}

// What was cut short anywhere is nothing that can be mounted, and is finished by the next
// Create, or deleted by Remove.
func TestSubvolumeCutShort(t *testing.T) {
	p := newGroupPool(t)
	if _, err := p.Descriptions(t.Context()); err != nil { // which has the group mounted
		t.Fatal(err)
	}
	mkdir := func(name string) {
		t.Helper()
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const uuid = "9f3aa7c6-5c1e-4a2f-8d4d-1f6b0c9e0a11"
	for what, prepare := range map[string]func(dir, handle string){
		"first": func(dir, _ string) { mkdir(dir) },
		"data":  func(dir, _ string) { mkdir(dir); mkdir(filepath.Join(dir, uuid)) },
		"record": func(dir, _ string) {
			mkdir(dir)
			mkdir(filepath.Join(dir, uuid))
			touch(t, filepath.Join(dir, ".meta.tmp"))
		},
		"made": func(_, handle string) { subvolume(t, p.group(), "create", handle, "--mode", "700") }, // no owner, no size
	} {
		v, w := p.sized(what, 8<<20), p.sized(what+"-removed", 8<<20)
		for _, v := range []backends.Volume{v, w} {
			prepare(p.where(v.Handle), v.Handle)
			if _, err := p.Stat(t.Context(), v.Handle); !errors.Is(err, backends.ErrNotFound) {
				t.Errorf("%s: stat: %v", what, err)
			}
			if err := p.Mount(t.Context(), v.Handle, p.target(v.Handle), backends.MountOptions{}); !errors.Is(err, backends.ErrNotFound) {
				t.Errorf("%s: mount: %v", what, err)
			}
		}
		if err := p.Remove(t.Context(), w.Handle); err != nil {
			t.Errorf("%s: remove: %v", what, err)
		}
		if _, err := os.Lstat(p.where(w.Handle)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it was removed, and is there: %v", what, err)
		}
		if err := p.Create(t.Context(), v); err != nil {
			t.Errorf("%s: create: %v", what, err)
			continue
		}
		p.wantWhole(v)
		if err := p.Remove(t.Context(), v.Handle); err != nil {
			t.Error(err)
		}
	}

	// What has contents nobody takes for one of ours.
	for what, prepare := range map[string]func(dir, handle string) string{
		"file": func(dir, _ string) string { mkdir(dir); return dir },
		"old": func(dir, _ string) string {
			mkdir(dir)
			mkdir(filepath.Join(dir, "data"))
			return filepath.Join(dir, "data")
		},
		"new": func(dir, handle string) string {
			subvolume(t, p.group(), "create", handle)
			return filepath.Join(root(t), subvolume(t, p.group(), "getpath", handle))
		},
	} {
		v := p.sized(what+"-foreign", 8<<20)
		data := prepare(p.where(v.Handle), v.Handle)
		touch(t, filepath.Join(data, "precious"))
		for _, err := range []error{p.Create(t.Context(), v), p.Remove(t.Context(), v.Handle)} {
			if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "precious") {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(data, "precious")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func touch(t *testing.T, name string) {
	t.Helper()
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Sub-volumes of others are taken over, and none of dvold's.
func TestSubvolumeAdopt(t *testing.T) {
	p := newGroupPool(t)
	mine := p.create("mine")
	subvolume(t, p.group(), "create", "theirs", "--size", "7000000", "--mode", "751")
	subvolume(t, p.group(), "create", "going")
	subvolume(t, p.group(), "snapshot create", "going", "kept")
	subvolume(t, p.group(), "rm", "going", "--retain-snapshots")
	if err := os.Mkdir(p.where("directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{
		mine: backends.ErrInvalid, ".dvol": backends.ErrInvalid, "..": backends.ErrInvalid, "theirs/x": backends.ErrInvalid, "a b": backends.ErrInvalid,
		"directory": backends.ErrInvalid, "missing": backends.ErrNotFound, "going": backends.ErrNotFound,
	} {
		if v, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Adopt: name}); !errors.Is(err, want) {
			t.Errorf("adopt %q: %+v, %v, want %v", name, v, err, want)
		}
	}
	v, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Adopt: "theirs"})
	if err == nil {
		err = p.Create(t.Context(), v)
	}
	if err != nil || v.Handle != "theirs" || !v.Adopted {
		t.Fatalf("%+v, %v", v, err)
	}
	if info, err := p.Stat(t.Context(), v.Handle); err != nil || info.Size != 7000000 || !strings.HasSuffix(info.Location, p.subdir+"/theirs") {
		t.Errorf("%+v, %v", info, err)
	}
	target := p.mount(v.Handle, backends.MountOptions{})
	p.write(target, "x")
	if info, err := os.Stat(target); err != nil || info.Mode() != fs.ModeDir|0o751 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if err := p.Unmount(t.Context(), v.Handle, target); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), v.Handle); !errors.Is(err, backends.ErrInvalid) {
		t.Errorf("remove: %v", err)
	}
	p.want(p.mount(v.Handle, backends.MountOptions{}), "x")
}

// A name is as long as the manager's files can have it.
func TestSubvolumeNames(t *testing.T) {
	need(t)
	id := strings.Repeat("n", 200) + ".0123456789ab"
	longest := 255 - len("_:.meta") - len(id)
	for _, length := range []int{longest, longest + 1} {
		group := newGroup(t, strings.Repeat("g", length))
		p := &pool{t: t, run: hosttest.Dir(t), subdir: "volumes/" + group}
		p.Pool = open(t, p.run, inGroup(t, group))
		v, err := p.Plan(t.Context(), backends.Request{ID: id})
		if length > longest {
			if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "1 bytes too long") {
				t.Errorf("plan: %+v, %v", v, err)
			}
			continue
		}
		if err == nil {
			err = errors.Join(p.Create(t.Context(), v), p.Remove(t.Context(), v.Handle))
		}
		if err != nil {
			t.Error(err)
		}
	}
}
