package lab_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// onStorage is a configuration with a pool on the storage server.
func onStorage(string) string {
	return `coordination: {type: consul, lease_ttl: 10s}
pools:
  shared: {type: local, path: /dfs, shared: true, require_mount: true}
`
}

func TestVolumeOnStorage(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2, Servers: 1, Storage: true, Dvold: buildDvold(t), Configure: onStorage})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h1, h2 := c.Host(1), c.Host(2)
	docker(t, h1, "volume", "create", "-d", "dvol", "data")
	sh := func(h *lab.Host, script string) string {
		t.Helper()
		return docker(t, h, "run", "--rm", "--network", "host", "-v", "data:/data", lab.BusyBox, "sh", "-euc", script)
	}
	sh(h1, `cd /data
		echo old >kept; mkdir dir; echo new | dd of=dir/new conv=fsync 2>/dev/null; mv dir/new kept; rmdir dir
		chmod 640 kept; chown 7:8 kept; touch gone; ln kept linked; rm gone
		dd if=/dev/urandom of=big bs=100k count=20 conv=fsync 2>/dev/null; md5sum big >sum`)
	got := sh(h2, `cd /data; md5sum -cs sum; stat -c '%a %u %g' kept; cat kept linked; echo more >>kept; truncate -s 5 big; ls`)
	if want := "640 7 8\nnew\nnew\nbig\nkept\nlinked\nsum"; got != want {
		t.Errorf("h2 sees %q, want %q", got, want)
	}
	if got, want := sh(h1, "cat /data/kept; stat -c %s /data/big"), "new\nmore\n5"; got != want {
		t.Errorf("h1 sees %q, want %q", got, want)
	}
	if files, _ := filepath.Glob(c.Storage().Data("volumes/data.*/kept")); len(files) != 1 {
		t.Errorf("files on the server: %v", files)
	}
	docker(t, h2, "volume", "rm", "data")
}

// A host that is cut off from the storage waits, without an error, and the
// others do not.
func TestCutStorageHangs(t *testing.T) {
	t.Parallel()
	c := storage(t)
	h1, h2 := c.Host(1), c.Host(2)
	b1, b2 := startBeats(t, c, h1, "b1"), startBeats(t, c, h2, "b2")
	mounted := run(t, h1, "stat", "-c", "%d", "/dfs")
	for range 2 {
		if err := h1.Cut(t.Context(), lab.Storage); err != nil {
			t.Fatal(err)
		}
		b1.wantSilence(t, 1500*time.Millisecond)
		b2.wantMore(t)
		if err := h1.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		healed := time.Now()
		b1.wantMore(t)
		if took := time.Since(healed); took > 3*time.Second {
			t.Errorf("h1 went on %v after the cut", took)
		}
	}
	if errors := b1.errors.String(); errors != "" {
		t.Errorf("h1 saw errors: %s", errors)
	}
	if again := run(t, h1, "stat", "-c", "%d", "/dfs"); again != mounted {
		t.Errorf("device is %s, was %s", again, mounted)
	}
	b1.wantSound(t)
}

// Nothing that a host writes lands once the fence has answered, whatever became
// of the host; also when it is back.
func TestFence(t *testing.T) {
	tests := map[string]struct{ before, after func(*testing.T, *lab.Host) }{
		"alive": {func(*testing.T, *lab.Host) {}, func(*testing.T, *lab.Host) {}},
		"cut off": {
			func(t *testing.T, h *lab.Host) { check(t, h.Cut(t.Context(), lab.Storage)) },
			func(t *testing.T, h *lab.Host) { check(t, h.Heal(t.Context())) },
		},
		"frozen": {
			func(t *testing.T, h *lab.Host) { check(t, h.Freeze()) },
			func(t *testing.T, h *lab.Host) { check(t, h.Thaw()) },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := storage(t)
			h1, h2 := c.Host(1), c.Host(2)
			var all []*beats
			for _, name := range []string{"b1", "b2", "b3", "b4"} {
				all = append(all, startBeats(t, c, h1, name))
			}
			test.before(t, h1)
			took := fence(t, h2, "fence", "h1")
			t.Logf("fenced in %v", took.Round(time.Millisecond))
			at := time.Now()
			before := contents(t, all)
			h2Beats := startBeats(t, c, h2, "other")
			time.Sleep(1500*time.Millisecond - time.Since(at))
			test.after(t, h1)
			time.Sleep(3*time.Second - time.Since(at))
			for i, after := range contents(t, all) {
				if !bytes.Equal(before[i], after) {
					t.Errorf("%s landed after the fence", bytes.TrimPrefix(after, before[i]))
				}
			}
			for _, b := range all {
				b.wantSound(t)
				eventually(t, "an error on h1", func() bool { return strings.Contains(b.errors.String(), "not connected") })
			}
			h2Beats.wantMore(t)
			if err := h1.RemountStorage(t.Context()); err == nil {
				t.Error("a host that is fenced mounts the storage")
			}
			fence(t, h2, "fence", "h1") // again is fine
			fence(t, h1, "unfence", "h1")
			fence(t, h2, "unfence", "h1")
			if _, err := h1.Exec(t.Context(), "touch", "/dfs/x"); err == nil {
				t.Error("what was mounted lives again")
			}
			check(t, h1.RemountStorage(t.Context()))
			all[0].wantMore(t)
			all[0].wantSound(t)
		})
	}
}

func TestFenceRefuses(t *testing.T) {
	t.Parallel()
	c := storage(t)
	for _, order := range [][2]string{{"fence", "h7"}, {"fence", ""}, {"fence", "../h1"}, {"kill", "h1"}, {"fence", "h1 h2"}, {"", ""}} {
		if out, err := tryFence(t, c.Host(2), order[0], order[1]); err == nil {
			t.Errorf("%q: %s", order, out)
		}
	}
	const patience = 15 * time.Second // dvold has 20 s
	refuses := func(why string) {
		t.Helper()
		began := time.Now()
		if out, err := tryFence(t, c.Host(2), "fence", "h1"); err == nil {
			t.Errorf("fence %s: %s", why, out)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("fence %s took %v", why, took)
		}
		if c.Storage().Fenced("h1") {
			t.Error("h1 is fenced")
		}
	}
	check(t, c.Host(2).Cut(t.Context(), lab.Storage))
	refuses("by a host that is cut off")
	check(t, c.Host(2).Heal(t.Context()))
	check(t, c.Storage().Freeze())
	refuses("by a server that is frozen")
	check(t, c.Storage().Thaw())
	run(t, c.Host(1), "touch", "/dfs/x")
}

// An order to let a host in that comes after a later fence is none.
func TestLateUnfence(t *testing.T) {
	t.Parallel()
	c := storage(t)
	for _, step := range []struct {
		action, stay string
		fenced       bool
	}{
		{"fence", "5", true}, {"unfence", "4", true}, {"fence", "4", true}, {"unfence", "4", true}, {"fence", "12", true}, {"unfence", "5", true},
		{"unfence", "12", false}, {"unfence", "12", false}, {"fence", "3", true}, {"unfence", "13", false}, {"fence", "20", true}, {"unfence", "", false},
	} {
		var stay []string
		if step.stay != "" {
			stay = []string{"DVOL_INCARNATION=" + step.stay}
		}
		if _, err := tryFence(t, c.Host(2), step.action, "h1", stay...); err != nil {
			t.Fatal(err)
		}
		if got := c.Storage().Fenced("h1"); got != step.fenced {
			t.Errorf("after %s of stay %q h1 is fenced: %t, want %t", step.action, step.stay, got, step.fenced)
		}
	}
}

func TestRebootMountsStorage(t *testing.T) {
	t.Parallel()
	c := storage(t)
	h1 := c.Host(1)
	run(t, h1, "touch", "/dfs/x")
	check(t, h1.Reboot(t.Context()))
	if _, err := h1.Exec(t.Context(), "ls", "/dfs/x"); err == nil {
		t.Error("the storage is mounted before it was started")
	}
	check(t, h1.StartAll(t.Context()))
	run(t, h1, "ls", "/dfs/x")

	fence(t, c.Host(2), "fence", "h1")
	check(t, h1.Reboot(t.Context()))
	check(t, h1.StartAll(t.Context()))
	if h1.Storage.Running() || len(mountsAt(t, h1, "/dfs")) > 0 {
		t.Error("the storage is mounted on a host that is fenced")
	}
	fence(t, c.Host(2), "unfence", "h1")
	check(t, c.StartStorage(t.Context()))
	run(t, h1, "ls", "/dfs/x")

	server := c.Storage()
	check(t, server.Kill())
	check(t, server.Boot(t.Context()))
	check(t, server.Sshd.Start(t.Context()))
	eventually(t, "the client's end", func() bool { return !h1.Storage.Running() })
	if _, err := h1.Exec(t.Context(), "ls", "/dfs/x"); err == nil {
		t.Error("a connection survived the server's reboot")
	}
	check(t, c.StartStorage(t.Context()))
	run(t, h1, "ls", "/dfs/x")
}

func TestCloseWithHungStorage(t *testing.T) {
	t.Parallel()
	c := storage(t)
	h1 := c.Host(1)
	b := startBeats(t, c, h1, "b")
	namespace := keepNamespace(t, run(t, h1, "readlink", "/proc/self/ns/pid"))
	server, err := c.Storage().Exec(t.Context(), "readlink", "/proc/self/ns/pid")
	check(t, err)
	keepNamespace(t, server)
	check(t, h1.Cut(t.Context(), lab.Storage))
	b.wantSilence(t, 300*time.Millisecond)
	began := time.Now()
	check(t, h1.Freeze())
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("freezing a host that hangs took %v", took)
	}
	if len(mountTables(c, h1.Machine)) == 0 {
		t.Error("nobody has its mounts while it is up")
	}
	began = time.Now()
	check(t, c.Close())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	left := append(processes(namespace), processes(server)...)
	if left = append(left, mountTables(c, h1.Machine)...); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// mountTables are those of processes that have mounts from a machine's disk. A
// namespace's number would not do: it may be another's by now.
func mountTables(c *lab.Cluster, m *lab.Machine) (found []string) {
	disk := filepath.Base(c.Path(".")) + "/" + m.Name() + "/"
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, table := range tables {
		if text, err := os.ReadFile(table); err == nil && strings.Contains(string(text), disk) {
			found = append(found, table)
		}
	}
	return found
}

// A frozen host thaws in the middle of what it was writing.
func TestFreezeHungHost(t *testing.T) {
	t.Parallel()
	c := storage(t)
	h1 := c.Host(1)
	b := startBeats(t, c, h1, "b")
	check(t, h1.Cut(t.Context(), lab.Storage))
	b.wantSilence(t, 300*time.Millisecond)
	check(t, h1.Freeze())
	check(t, h1.Heal(t.Context()))
	time.Sleep(1500 * time.Millisecond) // what its kernel still had to send lands
	b.wantSilence(t, time.Second)
	check(t, h1.Thaw())
	b.wantMore(t)
	for range 10 { // in the middle of anything
		check(t, h1.Freeze())
		check(t, h1.Thaw())
	}
	b.wantMore(t)
	b.wantSound(t)
}

// storage starts two hosts with storage.
func storage(t *testing.T) *lab.Cluster {
	t.Helper()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2, Storage: true})
	check(t, c.StartStorage(t.Context()))
	return c
}

// fence runs the fence on a host, and tells how long it took.
func fence(t *testing.T, h *lab.Host, action, host string) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := tryFence(t, h, action, host); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// tryFence runs it as dvold does.
func tryFence(t *testing.T, h *lab.Host, action, host string, more ...string) (string, error) {
	t.Helper()
	argv := append([]string{"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DVOL_ACTION=" + action, "DVOL_HOST=" + host}, more...)
	return h.Exec(t.Context(), append(argv, lab.FenceCommand)...)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mountsAt lists what is mounted at a directory of a host and below it.
func mountsAt(t *testing.T, h *lab.Host, dir string) []string {
	t.Helper()
	out, _ := h.Exec(t.Context(), "sh", "-c", "grep ' "+dir+"[ /]' /proc/self/mounts")
	return strings.Fields(out)
}
