package gluster_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// restartBrick has the brick of gv0 on a node start anew, with the options that there
// are by now. So does glusterd: one that was itself started while the brick ran never notices
// that that has ended (GlusterFS 10.3), and starts none, not by force either.
func restartBrick(t *testing.T, node string) {
	t.Helper()
	for _, pid := range append(brickProcesses(t, node, "gv0"), nodeProcess(t, node)) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			t.Fatal(err)
		}
		within(t, "it has ended", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	}
	startGlusterd(t, node)
	within(t, "the brick runs again", func() bool {
		all := brickProcesses(t, node, "gv0")
		return !slices.ContainsFunc(all, func(pid int) bool { return unix.Kill(pid, 0) != nil })
	})
}

// onAllBricks tells whether all three bricks of gv0 have a client of that address.
func onAllBricks(t *testing.T, address string) bool {
	t.Helper()
	out, err := onNode(t, "g1", "gluster", "--mode=script", "volume", "status", "gv0", "clients").Output()
	bricks := 0
	for _, part := range strings.Split(string(out), "Brick : ") {
		if strings.Contains(part, address+":") {
			bricks++
		}
	}
	return err == nil && bricks == 3
}

// A brick that was started while a host was rejected lets it in again like the others.
func TestUnfenceOnBrickStartedSince(t *testing.T) {
	p := newFencingPool(t, nil)
	t.Cleanup(func() { restartBrick(t, "g3") }) // it remembers
	resetReject(t, "gv0")
	v := newVictim(t, "v1", "gv0")
	if err := p.Fencing().Fence(patiently(t), v.fence(3)); err != nil {
		t.Fatal(err)
	}
	restartBrick(t, "g3")
	if err := p.Fencing().Unfence(patiently(t), v.fence(3)); err != nil {
		t.Fatal(err)
	}
	v.mustMount()
	p.eventually("all bricks have let it in", func() bool { return onAllBricks(t, v.address) })
}

// The host itself finds out whether the bricks let it in, and has one told again that
// does not: here because somebody has reset the list that it was started with.
func TestUnfenceIsTried(t *testing.T) {
	p := newFencingPool(t, nil)
	t.Cleanup(func() { restartBrick(t, "g3") })
	resetReject(t, "gv0")
	handle := p.create("data")
	id, err := p.Fencing().Identity(patiently(t), handle)
	if err != nil {
		t.Fatal(err)
	}
	gluster1(t, "volume", "set", "gv0", "auth.reject", "10.98.0.1", "user.dvol-reject-me-10.98.0.1", "10.98.0.1/me/3/rejected")
	restartBrick(t, "g3")
	gluster1(t, "volume", "reset", "gv0", "auth.reject")
	f := backends.Fence{Host: "me", Incarnation: 3, Pool: "pool", Volume: "db", Epoch: 1, Identity: id}
	if err := p.Fencing().Unfence(patiently(t), f); err != nil {
		t.Fatal(err)
	}
	if got := p.clients(); len(got) > 1 { // the shared one may have been replaced
		t.Errorf("it has left clients: %v", got)
	}
	p.mount(handle, backends.MountOptions{Alone: true, Identity: &id})
	p.eventually("all bricks have let it in", func() bool { return onAllBricks(t, "10.98.0.1") })
}
