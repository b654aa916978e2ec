package gluster_test

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

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host"
)

// newFencingPool is one with management by g1.
func newFencingPool(t *testing.T, change func(*gluster.Config)) *pool {
	m := management(t, "g1")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the servers say:\n%s\n%s", gluster1(t, "volume", "status", "gv0"), serversLogs(t))
		}
	})
	return newPool(t, func(c *gluster.Config) {
		c.Management = m
		if change != nil {
			change(c)
		}
	})
}

func volumeID(t *testing.T, volume string) string {
	t.Helper()
	for line := range strings.Lines(gluster1(t, "volume", "info", volume)) {
		if id, ok := strings.CutPrefix(line, "Volume ID: "); ok {
			return strings.TrimSpace(id)
		}
	}
	t.Fatalf("Gluster volume %s has no ID", volume)
	return ""
}

// rejected is the list of addresses that a Gluster volume rejects, without the one
// that is nobody's.
func rejected(t *testing.T, volume string) string {
	t.Helper()
	for line := range strings.Lines(gluster1(t, "volume", "info", volume)) {
		if list, ok := strings.CutPrefix(line, "auth.reject: "); ok {
			return strings.TrimPrefix(strings.TrimSpace(list), "0.0.0.0")
		}
	}
	return ""
}

// resetReject has nobody rejected once the test has ended.
func resetReject(t *testing.T, volume string) {
	t.Helper()
	t.Cleanup(func() { gluster1(t, "volume", "set", volume, "auth.reject", "0.0.0.0") })
}

// patiently is for calls that take some seconds, and more on a machine with much to do.
func patiently(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A host that writes, or is frozen while it does, writes no more once Fence has
// returned: not when it goes on, and not with a new client.
func TestFence(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen %v", frozen), func(t *testing.T) {
			var management string
			p := newFencingPool(t, func(c *gluster.Config) { management = c.Management[0] }).Fencing()
			resetReject(t, "gv0")
			v := newVictim(t, "v1", "gv0")
			file := filepath.Base(v.dir)
			v.write(file)
			time.Sleep(500 * time.Millisecond)
			thaw := func() {}
			if frozen {
				thaw = v.freeze()
			}
			began := time.Now()
			if err := p.Fence(patiently(t), v.fence(3)); err != nil {
				t.Fatal(err)
			}
			ran, _ := os.ReadFile(management + ".log")
			t.Logf("it took %v, and these commands:\n%s", time.Since(began), ran)
			before := onBricks(t, "gv0", file, "g1", "g2", "g3")
			if before[0] == "" {
				t.Error("nothing was written before")
			}
			thaw()
			time.Sleep(3 * time.Second)
			after := onBricks(t, "gv0", file, "g1", "g2", "g3")
			for i, text := range after { // the brick that the fence comes to first may be healed from the others
				if text != before[i] && text != slices.Max(before) {
					t.Errorf("written after the fence: %q, and then %q", before, after)
				}
			}
			if v.mount() {
				t.Error("it can mount the volume anew")
			}
			if err := p.Fence(patiently(t), v.fence(3)); err != nil { // again
				t.Error(err)
			}
			if err := p.Unfence(patiently(t), v.fence(3)); err != nil {
				t.Fatal(err)
			}
			v.mustMount()
		})
	}
}

// HAZARDS 4: who is let in again is one, and nobody else; and not on account of a
// fence of an earlier stay, nor if the operator rejects it.
func TestUnfence(t *testing.T) {
	p := newFencingPool(t, nil).Fencing()
	resetReject(t, "gv0")
	gluster1(t, "volume", "set", "gv0", "auth.reject", "10.98.0.99")
	v1, v2 := newVictim(t, "v1", "gv0"), newVictim(t, "v2", "gv0")
	for _, f := range []backends.Fence{v1.fence(3), v2.fence(1)} {
		if err := p.Fence(patiently(t), f); err != nil {
			t.Fatal(err)
		}
	}
	want := func(list string) {
		t.Helper()
		if got := rejected(t, "gv0"); got != list {
			t.Fatalf("rejected are %q, want %q", got, list)
		}
	}
	want("10.98.0.99,10.98.0.51,10.98.0.52")
	unfence := func(f backends.Fence) {
		t.Helper()
		for range 2 { // and again
			if err := p.Unfence(patiently(t), f); err != nil {
				t.Fatal(err)
			}
		}
	}
	unfence(v1.fence(2))
	want("10.98.0.99,10.98.0.51,10.98.0.52")
	unfence(v1.fence(3))
	want("10.98.0.99,10.98.0.52")
	v1.mustMount()
	if v2.mount() {
		t.Error("the other was let in, too")
	}
	unfence(v2.fence(1))
	want("10.98.0.99")
	v2.mustMount()

	gluster1(t, "volume", "set", "gv0", "auth.reject", "10.98.0.51")
	if err := p.Fence(patiently(t), v1.fence(4)); err != nil {
		t.Fatal(err)
	}
	unfence(v1.fence(4))
	want("10.98.0.51")
	gluster1(t, "volume", "reset", "gv0", "auth.reject")
	if err := p.Fence(patiently(t), v1.fence(5)); err != nil {
		t.Fatal(err)
	}
	unfence(v1.fence(5))
	want("")
}

// HAZARDS 3: glusterd says yes, though a brick has not heard of it. That is no
// fence where the brick would do for a write, and one where it would not.
func TestFenceWithGlusterdDown(t *testing.T) {
	need(t)
	newVolume(t, "dist", nil, "g1", "g3")
	p, d := newFencingPool(t, nil).Fencing(), newFencingPool(t, func(c *gluster.Config) { c.Volume, c.Subdir = "dist", "" }).Fencing()
	resetReject(t, "gv0")
	dist, repl := newVictim(t, "v1", "dist"), newVictim(t, "v2", "gv0")
	killGlusterd(t, "g3")
	err := d.Fence(patiently(t), dist.fence(1))
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "10.98.0.43:") {
		t.Errorf("distribute: got %v", err)
	}
	for i := range 20 { // its brick has not heard of it
		_ = onNode(t, "v1", "dd", "if=/dev/zero", fmt.Sprintf("of=%s/new%d", dist.dir, i), "bs=1", "count=1").Run()
	}
	written, err := filepath.Glob(filepath.Join(nodeDir("g3"), "brick/dist/new*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of 20 files could still be written by a host that glusterd said to reject", len(written))

	file := filepath.Base(repl.dir)
	repl.write(file)
	time.Sleep(500 * time.Millisecond)
	if err := p.Fence(patiently(t), repl.fence(1)); err != nil {
		t.Fatalf("replica: %v", err)
	}
	before := onBricks(t, "gv0", file, "g1", "g2", "g3")
	time.Sleep(3 * time.Second)
	if after := onBricks(t, "gv0", file, "g1", "g2", "g3"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("written after the fence: %q, and then %q", before, after)
	}
	startGlusterd(t, "g3")
	for range 20 { // it finds its bricks again in some seconds
		if err = d.Fence(patiently(t), dist.fence(1)); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("distribute, once glusterd runs: %v", err)
	}
}

// A fence that would hit somebody else, or is about another Gluster volume, is
// refused, and nothing is changed.
func TestFenceRefused(t *testing.T) {
	p := newFencingPool(t, nil).Fencing()
	v := &victim{t: t, name: "v1", volume: "gv0"}
	for address, want := range map[string]string{"10.98.0.1": "this host's own"} {
		v.address = address
		if err := p.Fence(patiently(t), v.fence(1)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", address, err)
		}
	}
	v.address = "10.98.0.51"
	f := v.fence(1)
	f.Identity.Facts["gluster_volume_id"] = "another"
	f.Identity.Domain = "gluster/another/10.98.0.51"
	if err := p.Fence(patiently(t), f); err == nil || !strings.Contains(err.Error(), "another one") {
		t.Errorf("another Gluster volume: got %v", err)
	}
	f = v.fence(1)
	f.Identity.Domain = "host"
	if err := p.Fence(patiently(t), f); err == nil {
		t.Error("another domain: got no error")
	}
	if got := rejected(t, "gv0"); got != "" {
		t.Errorf("rejected are %s", got)
	}
}

// HAZARDS 5 and 6: a host says only what is true of how it could be cut off.
func TestIdentity(t *testing.T) {
	p := newFencingPool(t, nil)
	id, err := p.Fencing().Identity(patiently(t), p.create("data"))
	if err != nil || id.Domain != "gluster/"+volumeID(t, "gv0")+"/10.98.0.1" || id.Facts["address"] != "10.98.0.1" {
		t.Errorf("got %+v, %v", id, err)
	}
	for name, test := range map[string]struct {
		change func(*gluster.Config)
		kind   error
		want   string
	}{
		"a server's address": {func(c *gluster.Config) { c.ClientAddress = "10.98.0.42" }, backends.ErrCannotFence, "is a server's"},
		"no peer":            {func(c *gluster.Config) { c.Management = management(t, "v1", "--remote-host=10.98.0.41") }, nil, "must be able to change options"},
		"no glusterd":        {func(c *gluster.Config) { c.Management = management(t, "v1") }, backends.ErrUnavailable, "gluster --xml volume info"},
		"unknown volume":     {func(c *gluster.Config) { c.Volume = "nope" }, nil, "does not exist"},
	} {
		id, err := newFencingPool(t, test.change).Fencing().Identity(patiently(t), "volumes/x")
		if err == nil || test.kind != nil && !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %+v, %v", name, id, err)
		}
	}
}

// The client of an exclusive volume reaches the bricks from the address that was
// recorded, and no other; if the bricks see another, the volume is not mounted.
func TestClientAddress(t *testing.T) {
	need(t)
	for _, args := range [][]string{{"add", "10.98.0.2/24"}, {"del", "10.98.0.2/24"}} {
		run := func() {
			if out, err := exec.Command("ip", "addr", args[0], args[1], "dev", "switch").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		}
		if args[0] == "add" {
			run()
		} else {
			t.Cleanup(run)
		}
	}
	p := newFencingPool(t, func(c *gluster.Config) { c.ClientAddress = "10.98.0.2" })
	handle := p.create("data")
	id, err := p.Fencing().Identity(patiently(t), handle)
	if err != nil {
		t.Fatal(err)
	}
	o := backends.MountOptions{Alone: true, Identity: &id}
	target := p.mount(handle, o)
	p.write(target, "x")
	own := ownClient(p)
	all, err := own.Connections()
	if err != nil {
		t.Fatal(err)
	}
	bricks := 0
	for _, c := range all {
		if c.Remote.Port() != 24007 {
			bricks++
			if c.Local.Addr().String() != "10.98.0.2" {
				t.Errorf("it reaches %v from %v", c.Remote, c.Local)
			}
		}
	}
	if bricks == 0 {
		t.Error("it has no connection to a brick")
	}
	if err := p.Mount(t.Context(), handle, target, o); err != nil {
		t.Errorf("again: %v", err)
	}
	other := id
	other.Facts = map[string]string{"address": "10.98.0.1", "gluster_volume": "gv0"}
	if err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &other}); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("with another identity: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}

	nat := []string{"-t", "nat", "-I", "POSTROUTING", "-s", "10.98.0.2", "-p", "tcp", "-j", "SNAT", "--to-source", "10.98.0.1"}
	if out, err := exec.Command("iptables", append([]string{"-w"}, nat...)...).CombinedOutput(); err != nil {
		t.Skipf("no translation of addresses here: %s", out)
	}
	t.Cleanup(func() {
		nat[2] = "-D"
		if out, err := exec.Command("iptables", append([]string{"-w"}, nat...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	err = p.Mount(ctx, handle, target, o)
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "no brick says") {
		t.Errorf("behind a translation of addresses: %v", err)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted {
		t.Errorf("mounted: %v, %v", mounted, err)
	}
	p.wantClients(1)
}

// ownClient is the client of the one exclusive volume.
func ownClient(p *pool) host.Process {
	p.t.Helper()
	running, err := gluster.ClientsBelow(filepath.Join(p.run, "gluster", "pool"))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, processes := range running {
		if strings.HasPrefix(name, "own.") {
			return processes[0]
		}
	}
	p.t.Fatal("there is none")
	return host.Process{}
}
