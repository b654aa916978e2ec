package volumes

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// TestUnmountedIsNotReleased: umount(2) says nothing of another mount namespace
// that has a copy of the mount, in which somebody works.
func TestVolumeThatIsUnmountedIsReleasedOnlyOnceItIsGone(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "1s"}))
	target := h1.mount("db", "c1", me(t))
	monitor := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "cd "+target+" && echo here && exec sleep 100")
	hosttest.Start(t, monitor)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.eventually("it is being released", func() bool { return h1.owner("db").State == ownerReleasing })
	if o := h1.owner("db"); !strings.Contains(o.Problem, fmt.Sprint(monitor.Process.Pid)) {
		t.Errorf("who is in the way: %q, want process %d", o.Problem, monitor.Process.Pid)
	}
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount elsewhere", err, ErrInUse, `"h1"`, "can't let go of it", fmt.Sprint(monitor.Process.Pid))
	h1.must(monitor.Process.Kill())
	monitor.Wait()
	h1.poke()
	h2.eventually("h2 gets it", func() bool { _, err := h2.Mount(t.Context(), "db", "c1", me(t)); return err == nil })
	h2.wantOwner("db", "h2", 2)
}

// TestMountThatIsBusyIsBeingReleased: who works in a volume keeps it from being
// unmounted at all. Once a container needs it here again, it is as it was.
func TestMountThatIsBusyIsBeingReleased(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	admin := exec.Command("sh", "-c", "echo here && exec sleep 100")
	admin.Dir = target
	hosttest.Start(t, admin)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	if o := h1.owner("db"); o.State != ownerReleasing || !strings.Contains(o.Problem, fmt.Sprint(admin.Process.Pid)) {
		t.Errorf("owner: %s, %q; want it releasing, for process %d", o.State, o.Problem, admin.Process.Pid)
	}
	h1.mount("db", "c2", me(t))
	if o := h1.owner("db"); o.State != ownerHeld || o.Problem != "" || o.Epoch != 1 {
		t.Errorf("owner: %s, epoch %d, %q; want it held, 1", o.State, o.Epoch, o.Problem)
	}
	h1.must(admin.Process.Kill())
	admin.Wait()
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	if o := h1.owner("db"); o.State != ownerFree {
		t.Errorf("owner: %s, want it free", o.State)
	}
}

// TestMountThatWasCutShortIsUndoneByItsBackend: the backend may have started something for a volume that is not mounted,
// and is told to end it, whether or not that is a connection.
func TestMountThatWasCutShortIsUndoneByItsBackend(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.dieDuring("mount: mountpoint made", func(ctx context.Context) error {
		_, err := h1.Mount(ctx, "db", "c1", me(t))
		return err
	})
	h1.start().settled()
	g := h1.gates["a"]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asked) != 0 || g.unmounted == 0 {
		t.Errorf("%d mounts, %d unmounts", len(g.asked), g.unmounted)
	}
}

// TestIdentityOfAnotherFencerIsNotTheBackends: what an operator's command knows a host by is not the backend's
// business, which has identities of its own.
func TestIdentityOfAnotherFencerIsNotTheBackends(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.mount("db", "c1", me(t))
	g := h1.gates["a"]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.asked) != 1 || g.asked[0].Identity != nil {
		t.Errorf("asked for %+v", g.asked)
	}
}
