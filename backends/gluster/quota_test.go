package gluster_test

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

const mebi = 1 << 20

// enableQuota gives gv0 a quota, whose servers count again for each write, until
// the test has ended.
func enableQuota(t *testing.T) {
	t.Helper()
	gluster1(t, "volume", "quota", "gv0", "enable")
	t.Cleanup(func() { gluster1(t, "volume", "quota", "gv0", "disable") })
	for _, timeout := range []string{"soft-timeout", "hard-timeout"} {
		gluster1(t, "volume", "quota", "gv0", timeout, "0")
	}
	for _, node := range []string{"g1", "g2", "g3"} {
		within(t, "the brick of "+node+" is connected to its quotad", func() bool { return asksQuotad(t, node) })
	}
}

// asksQuotad tells whether the brick of a node has a connection to the node's quotad, which
// alone knows what all bricks hold. It tries to get one each 3 s; what it was to ask before, it
// asks 5 s later (quota_enforcer_lookup_cbk in quota-enforcer-client.c).
func asksQuotad(t *testing.T, node string) bool {
	t.Helper()
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", nodePID(t, node)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sockets)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		if len(f) == 8 && f[5] == "03" && path.Base(f[7]) == "quotad.socket" {
			return true
		}
	}
	return false
}

// In one test, because it takes some seconds to enable a quota.
func TestQuota(t *testing.T) {
	need(t)
	enableQuota(t)
	t.Run("Writer", testQuotaWriter)
	t.Run("Later", testQuotaLater)
	t.Run("UnfitPath", testQuotaUnfitPath)
	t.Run("Removed", testQuotaRemoved)
	t.Run("Brief", testQuotaBrief)
	t.Run("Concurrent", testQuotaConcurrent)
	t.Run("ServerFrozen", testQuotaServerFrozen)
	t.Run("ServerDown", testQuotaServerDown)
}

// quotaPool is a pool that has sizes, and the directory of gv0 that it is.
func quotaPool(t *testing.T) (*pool, string) {
	t.Helper()
	var subdir string
	p := newPool(t, func(c *gluster.Config) {
		c.Management = management(t, "g1")
		subdir = c.Subdir
	})
	return p, subdir
}

func (p *pool) createSized(name string, size int64) string {
	p.t.Helper()
	v, err := p.Plan(p.t.Context(), backends.Request{ID: name + ".0123456789ab", Size: size})
	if err == nil {
		err = p.Create(p.t.Context(), v)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return v.Handle
}

// wantSize waits until a volume has that limit, and holds used bytes or some more.
func (p *pool) wantSize(handle string, size, used int64) {
	p.t.Helper()
	var info backends.Info
	defer func() {
		if p.t.Failed() {
			p.t.Logf("%s has a limit of %d and holds %d", handle, info.Size, info.Used)
		}
	}()
	p.eventually(fmt.Sprintf("%s has a limit of %d and holds %d", handle, size, used), func() (ok bool) {
		var err error
		info, err = p.Stat(p.t.Context(), handle)
		if err != nil {
			p.t.Fatal(err)
		}
		return info.Size == size && info.Used >= used && info.Used <= used+mebi
	})
}

// writeAll writes a file of n bytes, each of its blocks to the bricks at once,
// and returns how much of it there was no error for.
func writeAll(name string, n int64) (written int64, err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|unix.O_DSYNC, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 128<<10)
	for written < n {
		if _, err := f.Write(block); err != nil {
			return written, err
		}
		written += int64(len(block))
	}
	return written, nil
}

// isFull tells whether a writer was told that a limit is reached. Bricks find that out each by
// itself: one that has refused what the others took is left out from then on, and where too few
// are left that agree, that is what the client says (afr_has_fop_quorum in afr-transaction.c).
func isFull(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOTCONN) }

// A writer meets the limit, and goes on in the open volume once that was raised:
// through the shared client, and through one of its own.
func testQuotaWriter(t *testing.T) {
	p, _ := quotaPool(t)
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			handle := p.createSized(fmt.Sprint("data", alone), 4*mebi)
			target := p.mount(handle, backends.MountOptions{Alone: alone})
			full, err := writeAll(filepath.Join(target, "file"), 16*mebi)
			if !isFull(err) || full < 3*mebi {
				t.Errorf("wrote %d bytes, %v; want an exceeded quota", full, err)
			}
			if written, err := writeAll(filepath.Join(target, "more"), mebi); !isFull(err) {
				t.Errorf("wrote %d bytes more, %v; want an exceeded quota", written, err)
			}
			if err := p.Resize(t.Context(), handle, 16*mebi); err != nil {
				t.Fatal(err)
			}
			p.eventually("the writer goes on", func() bool {
				_, err = writeAll(filepath.Join(target, "more"), mebi)
				return err == nil
			})
			var st unix.Statfs_t
			if err := unix.Statfs(target, &st); err != nil || int64(st.Blocks)*st.Frsize != 16*mebi {
				t.Errorf("df shows %d bytes, %v", int64(st.Blocks)*st.Frsize, err)
			}
			p.wantSize(handle, 16*mebi, full+mebi)
			if err := p.Unmount(t.Context(), handle, target); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A volume that was made without a size can get one; what it holds counts, also
// what it held before.
func testQuotaLater(t *testing.T) {
	p, _ := quotaPool(t)
	handle := p.create("data")
	if info, err := p.Stat(t.Context(), handle); err != nil || info.Size != 0 || info.Used != -1 {
		t.Errorf("without a limit: %+v, %v", info, err)
	}
	if err := p.Resize(t.Context(), handle, 0); err != nil {
		t.Errorf("no limit again: %v", err)
	}
	target := p.mount(handle, backends.MountOptions{})
	if _, err := writeAll(filepath.Join(target, "file"), 4*mebi); err != nil {
		t.Fatal(err)
	}
	p.eventually("its size is refused", func() bool {
		err := p.Resize(t.Context(), handle, 2*mebi)
		return errors.Is(err, backends.ErrInvalid) && strings.Contains(err.Error(), "holds 4194304 bytes")
	})
	if err := p.Resize(t.Context(), handle, 8*mebi); err != nil {
		t.Fatal(err)
	}
	p.wantSize(handle, 8*mebi, 4*mebi)
	if err := p.Resize(t.Context(), handle, 0); err != nil {
		t.Fatal(err)
	}
	p.wantSize(handle, 0, -1)
}

// Where there can be no limit, a size is refused, and the error says what helps.
func TestQuotaRefused(t *testing.T) {
	need(t)
	for name, test := range map[string]struct {
		change func(*gluster.Config)
		want   string
	}{
		"disabled":      {func(c *gluster.Config) { c.Management = management(t, "g1") }, `run "gluster volume quota gv0 enable" on a server`},
		"no management": {func(*gluster.Config) {}, "the key management in the pool's configuration"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, test.change)
			_, planned := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Size: mebi})
			handle := p.create("data")
			late := p.Create(t.Context(), backends.Volume{Handle: "volumes/late.0123456789ab", Size: mebi})
			for what, err := range map[string]error{"plan": planned, "resize": p.Resize(t.Context(), handle, mebi)} {
				if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", what, err)
				}
			}
			if !errors.Is(late, backends.ErrInvalid) {
				t.Errorf("create: %v", late)
			}
			if _, err := p.Stat(t.Context(), "volumes/late.0123456789ab"); !errors.Is(err, backends.ErrNotFound) {
				t.Errorf("what could not be limited is there: %v", err)
			}
			for _, h := range []string{handle, "volumes/late.0123456789ab"} {
				if err := p.Remove(t.Context(), h); err != nil {
					t.Errorf("remove: %v", err)
				}
			}
		})
	}
	t.Run("whole", func(t *testing.T) {
		p := newPool(t, func(c *gluster.Config) { c.GlusterVolumes = []string{"*"} })
		if err := p.Resize(t.Context(), "gluster:other", mebi); !errors.Is(err, backends.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}

// A path that no command could be given is refused before anything is made.
func testQuotaUnfitPath(t *testing.T) {
	odd := path.Join(newSubdir(t), "größe; x")
	if err := os.Mkdir(filepath.Join(root(t), odd), 0o755); err != nil {
		t.Fatal(err)
	}
	p := newPool(t, func(c *gluster.Config) { c.Management, c.Subdir = management(t, "g1"), odd })
	_, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab", Size: mebi})
	if !errors.Is(err, backends.ErrInvalid) || !strings.Contains(err.Error(), "not fit") {
		t.Errorf("got %v", err)
	}
	p.create("unlimited")
}

// Servers do one thing at a time with a Gluster volume, and refuse the others:
// all get their turn.
func testQuotaConcurrent(t *testing.T) {
	p, _ := quotaPool(t)
	done := make(chan error)
	const n = 6
	for i := range n {
		go func() {
			v := backends.Volume{Handle: fmt.Sprintf("volumes/data%d.0123456789ab", i), Size: mebi}
			err := p.Create(t.Context(), v)
			if err == nil {
				err = p.Resize(t.Context(), v.Handle, 2*mebi)
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for i := range n {
		p.wantSize(fmt.Sprintf("volumes/data%d.0123456789ab", i), 2*mebi, 0)
	}
}

// A server that is frozen holds up all others: then nothing is made, and the
// volume can be made once it answers.
func testQuotaServerFrozen(t *testing.T) {
	glusterd := nodeProcess(t, "g3")
	p := newPool(t, func(c *gluster.Config) { c.Management, c.ManagementTimeout = management(t, "g1"), 2*time.Second })
	v := backends.Volume{Handle: "volumes/late.0123456789ab", Size: mebi}
	target := p.mount(p.create("other"), backends.MountOptions{})
	thaw := hosttest.Freeze(t, glusterd)
	err := p.Create(t.Context(), v)
	thaw()
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("create: %v", err)
	}
	p.write(target, "well")
	p.eventually("it is made", func() bool { return p.Create(t.Context(), v) == nil })
	p.wantSize(v.Handle, mebi, 0)
}

// A server whose glusterd is down is told later, and its brick with it.
func testQuotaServerDown(t *testing.T) {
	p, _ := quotaPool(t)
	handle := p.createSized("data", 2*mebi)
	glusterd := nodeProcess(t, "g3")
	if err := unix.Kill(glusterd, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	back := sync.OnceFunc(func() { startGlusterd(t, "g3") })
	t.Cleanup(back)
	p.eventually("it ends", func() bool {
		_, err := host.FindProcess(glusterd)
		return err != nil
	})
	if err := p.Resize(t.Context(), handle, 4*mebi); err != nil {
		t.Errorf("resize: %v", err)
	}
	p.wantSize(handle, 2*mebi, 0) // until the brick is told, the smaller one shows
	p.wantSize(p.createSized("more", mebi), mebi, 0)
	back()
	p.eventually("the brick is told", func() bool {
		_ = onNode(t, "g1", "gluster", "volume", "heal", "gv0").Run() // not all are ready for it yet
		info, err := p.Stat(t.Context(), handle)
		return err == nil && info.Size == 4*mebi
	})
}
