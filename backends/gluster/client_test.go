package gluster_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// One client serves all volumes that are not exclusive, and one each of the others.
func TestClients(t *testing.T) {
	p := newPool(t, nil)
	var first int
	for i := range 210 {
		p.write(p.mount(p.create(fmt.Sprint("shared", i)), backends.MountOptions{}), "x")
		if i == 9 {
			first = resident(t, p.wantClients(1)[0].PID)
		}
	}
	if all := resident(t, p.wantClients(1)[0].PID); all > first+first/10 {
		t.Errorf("with 10 volumes the client had %d KiB, and with 210 it has %d: want 10%% more at most", first, all)
	}
	handle := p.create("exclusive")
	own := p.mount(handle, backends.MountOptions{Alone: true})
	p.wantClients(2)
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true}); err != nil { // again
		t.Fatal(err)
	}
	p.write(own, "mine")
	m, err := host.MountedAt(own)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := host.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range mounts {
		if other.Major == m.Major && other.Minor == m.Minor && other.Mountpoint != own {
			t.Errorf("its file system is mounted at %s, too", other.Mountpoint)
		}
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove a mounted volume: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantClients(1) // it has ended by then
	p.want(p.mount(handle, backends.MountOptions{}), "mine")
}

// resident is the memory of a process, in KiB; see proc_pid_status(5).
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == "VmRSS:" {
			size, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return size
		}
	}
	t.Fatal("it does not say")
	return 0
}

// A dvold that was killed or upgraded restarts no client, however many volumes they
// serve.
func TestClientsOutliveDvold(t *testing.T) {
	p := newPool(t, func(c *gluster.Config) { c.ClientGrace = 0 })
	var shared []string
	for i := range 20 {
		shared = append(shared, p.mount(p.create(fmt.Sprint("shared", i)), backends.MountOptions{}))
		p.write(shared[i], shared[i])
	}
	alone := p.create("alone")
	own := p.mount(alone, backends.MountOptions{Alone: true})
	before := p.wantClients(2)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again := &pool{t: t, run: p.run, Pool: open(t, p.run, func(c *gluster.Config) { c.Subdir, c.ClientGrace = p.subdir, 0 })}
	for i, target := range shared {
		again.want(target, target)
		if err := again.Mount(t.Context(), fmt.Sprintf("volumes/shared%d.0123456789ab", i), target, backends.MountOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Mount(t.Context(), alone, own, backends.MountOptions{Alone: true}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * gluster.TendInterval)
	for _, target := range shared {
		again.write(target, "after")
	}
	if after := again.clients(); !slices.Equal(before, after) {
		t.Errorf("clients were %v, and are %v", before, after)
	}
}

// What a client served that was killed is served by the next: where it is mounted,
// and in a container that runs. A client that is well is left alone.
func TestClientKilled(t *testing.T) {
	p := newPool(t, nil)
	target := p.mount(p.create("data"), backends.MountOptions{})
	own := p.mount(p.create("other"), backends.MountOptions{Alone: true})
	p.write(target, "before")
	container := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mkdir -p "$1" && mount --bind "$0" "$1" && umount "$0" && echo ready && while read -r _; do cat "$1/file" || echo; echo .; done`,
		target, filepath.Join(p.run, "container"))
	in, err := container.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := container.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = container.Wait()
	})
	said := make([]byte, 100)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "ready\n" {
		t.Fatalf("container says %q, %v", said[:n], err)
	}
	both := p.wantClients(2)
	shared := gluster.SharedPoint(t, p.Pool)
	var dead host.Process
	for _, c := range both {
		if args, _ := os.ReadFile("/proc/" + strconv.Itoa(c.PID) + "/cmdline"); strings.Contains(string(args), shared) {
			dead = c
		}
	}
	if err := unix.Kill(dead.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("a new client", func() bool {
		_, err := os.ReadFile(filepath.Join(target, "file"))
		return err == nil
	})
	p.want(target, "before")
	p.write(target, "after")
	p.write(own, "well")
	p.eventually("the container to see it", func() bool {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		n, err := out.Read(said)
		if err != nil {
			t.Fatal(err)
		}
		text := string(said[:n])
		for !strings.HasSuffix(text, ".\n") {
			n, err := out.Read(said)
			if err != nil {
				t.Fatal(err)
			}
			text += string(said[:n])
		}
		return strings.HasPrefix(text, "after")
	})
	after := p.wantClients(2)
	if slices.Contains(after, dead) {
		t.Error("the client lives")
	}
	if err := p.Unmount(t.Context(), "volumes/data.0123456789ab", target); err != nil {
		t.Fatal(err)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted {
		t.Errorf("still mounted: %v", err)
	}
}

// A client without a volume ends after the grace period, not before.
func TestClientReaped(t *testing.T) {
	p := newPool(t, func(c *gluster.Config) { c.ClientGrace = 2 * time.Second })
	handle := p.create("data")
	target := p.mount(handle, backends.MountOptions{})
	time.Sleep(4 * time.Second)
	first := p.wantClients(1)
	p.write(target, "x")
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
	p.eventually("its end", func() bool {
		left, err := os.ReadDir(filepath.Join(p.run, "gluster", "pool"))
		return err == nil && len(left) == 0 && len(p.clients()) == 0
	})
	again := p.mount(handle, backends.MountOptions{})
	p.want(again, "x")
	now := p.wantClients(1)
	if now[0] == first[0] {
		t.Error("the client is the same")
	}

	// One that ends while nothing is mounted of it is not replaced.
	if err := p.Unmount(t.Context(), handle, again); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(now[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("nothing of it is left", func() bool {
		left, err := os.ReadDir(filepath.Join(p.run, "gluster", "pool"))
		return err == nil && len(left) == 0
	})
	time.Sleep(2 * gluster.TendInterval)
	p.wantClients(0)
}

// Mounting fails in time, for a reason that is told, and leaves nothing.
func TestCauses(t *testing.T) {
	need(t)
	frozen := nodeProcess(t, "g1")
	for _, test := range []struct {
		name, want string
		change     func(*testing.T, *gluster.Config)
	}{
		{"unknown volume", "know no Gluster volume nope", func(_ *testing.T, c *gluster.Config) { c.Volume = "nope" }},
		{"no server", "no server of the pool answers (10.98.0.99)", func(_ *testing.T, c *gluster.Config) { c.Servers = []string{"10.98.0.99"} }},
		{"no name", "can be found by its name (nosuch.invalid)", func(_ *testing.T, c *gluster.Config) { c.Servers = []string{"nosuch.invalid"} }},
		{"no directory", "has no directory nosub", func(_ *testing.T, c *gluster.Config) { c.Subdir = "nosub" }},
		{"refused", "refuses this host", func(t *testing.T, c *gluster.Config) {
			gluster1(t, "volume", "set", "gv0", "auth.reject", "10.98.0.1")
			t.Cleanup(func() { gluster1(t, "volume", "reset", "gv0", "auth.reject") })
		}},
		{"frozen", "no server of the pool answers (10.98.0.41)", func(t *testing.T, c *gluster.Config) {
			c.Servers, c.MountTimeout = []string{"10.98.0.41"}, 2*time.Second
			root(t) // while it answers
			hosttest.Freeze(t, frozen)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPool(t, func(c *gluster.Config) { test.change(t, c) })
			begin := time.Now()
			_, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab"})
			if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 16*time.Second {
				t.Errorf("it took %v", took)
			}
			// What a client has forked to unmount is called as the client until it is another program.
			p.eventually("there are no clients", func() bool { return len(p.clients()) == 0 })
			if left, err := os.ReadDir(filepath.Join(p.run, "gluster", "pool")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// A first server that takes connections and says nothing costs some seconds.
func TestFirstServerFrozen(t *testing.T) {
	need(t)
	root(t)
	hosttest.Freeze(t, nodeProcess(t, "g1"))
	p := newPool(t, nil)
	p.write(p.mount(p.create("data"), backends.MountOptions{}), "x")
}

// A writer goes on while a brick, and then its server, is killed; healed, all bricks
// have the same.
func TestNodeKilled(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("data")
	target := p.mount(handle, backends.MountOptions{})
	write := func(n int) {
		t.Helper()
		for range n {
			f, err := os.OpenFile(filepath.Join(target, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("0123456789abcdef\n"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(20)
	for _, pid := range append(brickProcesses(t, "g3", "gv0"), nodeProcess(t, "g3")) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		write(20)
	}
	startGlusterd(t, "g3")
	write(20)
	path := filepath.Join(p.subdir, handle)
	var all []string
	for limit := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		all = onBricks(t, "gv0", filepath.Join(path, "log"), "g1", "g2", "g3")
		if len(all[0]) == 80*17 && all[0] == all[1] && all[1] == all[2] {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("bricks have %d, %d and %d bytes, want %d each, the same", len(all[0]), len(all[1]), len(all[2]), 80*17)
		}
	}
}

// Whole Gluster volumes are volumes where the configuration says so.
func TestWholeVolume(t *testing.T) {
	need(t)
	newVolume(t, "team-a", nil, "g1")
	p := newPool(t, func(c *gluster.Config) { c.GlusterVolumes = []string{"team-*"} })
	plan := func(name string) (backends.Volume, error) {
		return p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Options: map[string]string{gluster.OptionVolume: name}})
	}
	for _, bad := range []string{"gv0", "other", "team-a/../x", "team-a/", "/", ""} {
		if _, err := plan(bad); !errors.Is(err, backends.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := plan("team-a/sub"); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("missing directory: %v", err)
	}
	v, err := plan("team-a")
	if err != nil {
		t.Fatal(err)
	}
	target := p.mount(v.Handle, backends.MountOptions{})
	p.write(target, "x")
	if err := os.Mkdir(filepath.Join(target, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	sub, err := plan("team-a/sub")
	if err != nil {
		t.Fatal(err)
	}
	own := p.mount(sub.Handle, backends.MountOptions{Alone: true})
	p.write(own, "y")
	p.want(filepath.Join(target, "sub"), "y")
	for _, h := range []string{v.Handle, sub.Handle} {
		if err := p.Remove(t.Context(), h); !errors.Is(err, backends.ErrInvalid) {
			t.Errorf("remove %s: %v", h, err)
		}
		if info, err := p.Stat(t.Context(), h); err != nil || !strings.HasSuffix(info.Location, strings.TrimPrefix(h, "gluster")) {
			t.Errorf("stat %s: %+v, %v", h, info, err)
		}
	}
}
