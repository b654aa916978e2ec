//go:build ceph && cgo

package cephfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Without a manager what is there goes on, and only what takes one fails, soon and saying
// what to do, and is made good afterwards.
func TestNoManager(t *testing.T) {
	p := newGroupPool(t)
	f := fencing(t, p.Pool)
	handle, gone, planned := p.create("mine"), p.create("gone"), p.sized("planned", 8<<20)
	target := p.mount(handle, backends.MountOptions{})
	p.write(target, "x")
	if err := p.Stamp(t.Context(), handle, []byte("1")); err != nil {
		t.Fatal(err)
	}
	change := func(what, want string, most time.Duration) {
		t.Helper()
		var all sync.WaitGroup
		for doing, do := range map[string]func() error{
			"create": func() error { return p.Create(t.Context(), planned) },
			"resize": func() error { return p.Resize(t.Context(), handle, 8<<20) },
			"remove": func() error { return p.Remove(t.Context(), gone) },
			"undo":   func() error { return p.Remove(t.Context(), "never.0123456789ab") },
		} {
			all.Go(func() {
				begin := time.Now()
				err := do()
				t.Logf("%s, %s: %v, after %v", what, doing, err, time.Since(begin).Round(10*time.Millisecond))
				if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: %v, want one that says %q", what, doing, err, want)
				}
				if took := time.Since(begin); took > most {
					t.Errorf("%s, %s: it took %v", what, doing, took)
				}
			})
		}
		all.Wait()
	}
	goesOn := func(what string) {
		t.Helper()
		begin := time.Now()
		if err := p.Unmount(t.Context(), handle, target); err != nil {
			t.Fatal(err)
		}
		other := &pool{t: t, run: hosttest.Dir(t), subdir: p.subdir}
		other.Pool = open(t, other.run, inGroup(t, p.group())) // as on another host
		there := other.mount(handle, backends.MountOptions{})
		other.want(there, "x")
		alone := other.mount(gone, backends.MountOptions{Alone: true})
		if err := errors.Join(other.Unmount(t.Context(), handle, there), other.Unmount(t.Context(), gone, alone)); err != nil {
			t.Error(err)
		}
		id, err := f.Identity(t.Context(), handle)
		if err == nil {
			id, err = f.Connect(t.Context(), handle, id)
		}
		if err != nil {
			t.Fatal(err)
		}
		own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &id})
		p.want(own, "x")
		stamp, err := p.Stamped(t.Context(), handle)
		if err != nil || string(stamp) != "1" {
			t.Errorf("its stamp is %q, %v", stamp, err)
		}
		if err := p.Unmount(t.Context(), handle, own); err != nil {
			t.Error(err)
		}
		p.want(p.mount(handle, backends.MountOptions{}), "x")
		t.Logf("%s: all that goes on took %v", what, time.Since(begin).Round(10*time.Millisecond))
	}

	manager := managerProcess(t)
	thaw := func() {
		if err := unix.Kill(manager, unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}
	if err := unix.Kill(manager, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(thaw)
	change("frozen", "ceph mgr fail", 20*time.Second) // call_timeout is 3 s
	goesOn("frozen")
	cephtest.Admin(t, "ceph", "mgr", "fail", "x")
	change("none", "ceph mgr stat", 20*time.Second)
	goesOn("none")
	thaw()
	p.eventually("it is made once there is a manager", func() bool { return p.Create(t.Context(), planned) == nil })
	p.wantWhole(planned)
	if err := errors.Join(p.Resize(t.Context(), handle, 8<<20), p.Resize(t.Context(), handle, 0)); err != nil {
		t.Error(err)
	}
	p.want(target, "x")
	if err := p.Remove(t.Context(), gone); err != nil {
		t.Error(err)
	}
}

// managerProcess is the cluster's manager, which is in this world.
func managerProcess(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		args, _ := os.ReadFile(name) // it may have ended
		if bytes.HasPrefix(args, []byte("ceph-mgr\x00--conf\x00"+os.Getenv("CEPH_ADMIN")+"\x00")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("there is no manager")
	return 0
}

// The caps of docs/cephfs.md are enough in their group, and for nothing in another; and
// what takes more says so.
func TestSubvolumeCaps(t *testing.T) {
	need(t)
	for _, group := range []string{"docker", "other"} {
		newGroup(t, group)
	}
	with := ` with vol_name=cephfs group_name=docker`
	commands := `allow command "fs subvolume create"` + with + `, allow command "fs subvolume resize"` + with + `, allow command "fs subvolume rm"` + with
	caps := []string{"mon", "allow r", "mds", "allow rw fsname=cephfs path=/volumes/docker", "osd", "allow rw tag cephfs data=cephfs"}
	as := func(user, group string, caps ...string) *pool {
		keyring := filepath.Join(t.TempDir(), "keyring")
		if err := os.WriteFile(keyring, []byte(cephtest.Admin(t, "ceph", append([]string{"auth", "get-or-create", "client." + user}, caps...)...)), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &pool{t: t, run: hosttest.Dir(t), subdir: "volumes/" + group}
		p.Pool = open(t, p.run, func(c *cephfs.Config) {
			inGroup(t, group)(c)
			c.Cluster.User, c.Cluster.Keyring = user, keyring
		})
		return p
	}
	p := as("caps", "docker", append(caps, "mgr", commands)...)
	v := p.sized("mine", 8<<20)
	if err := p.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	p.wantWhole(v)
	if err := p.Resize(t.Context(), v.Handle, 9<<20); err != nil {
		t.Error(err)
	}
	if err := p.Remove(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}

	want := func(what string, err error) {
		t.Helper()
		t.Logf("%s: %v", what, err)
		if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "caps of client.") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The MDS lets it in there, and the manager does not.
	other := as("caps-other", "other", "mon", "allow r", "mds", "allow rw fsname=cephfs path=/volumes", "osd", "allow rw tag cephfs data=cephfs", "mgr", commands)
	v = other.sized("mine", 8<<20)
	want("another group", other.Create(t.Context(), v))
	if _, err := os.Lstat(other.where(v.Handle)); err == nil {
		t.Error("a sub-volume was made")
	}
	nothing := as("caps-nothing", "docker", caps...)
	v = nothing.sized("mine", 8<<20)
	want("no caps for the manager", nothing.Create(t.Context(), v))
	reader := as("caps-reader", "docker", "mon", "allow r", "mds", "allow r fsname=cephfs path=/volumes/docker", "osd", "allow rw tag cephfs data=cephfs", "mgr", commands)
	v, err := reader.Plan(t.Context(), backends.Request{ID: "read.0123456789ab"})
	if err == nil {
		err = reader.Create(t.Context(), v)
	}
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "caps of the pool's user") {
		t.Errorf("caps to read alone: %v", err)
	}
	missing := as("caps", "nosuch")
	if _, err := missing.Plan(t.Context(), backends.Request{ID: "v.0123456789ab"}); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("no such group: %v", err)
	} else {
		t.Log(err)
	}
}
