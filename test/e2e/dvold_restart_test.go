package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

func TestDvoldCrashesUnderRunningContainer(t *testing.T) {
	h := ownHost(t)
	h.start("box", beat, "-v", "store:/data")
	h.must(h.KillDvold())
	h.wantBeating("box")
	h.must(h.StartDvold(h.ctx))
	h.wantBeating("box")
	h.wantMounts(1)
	h.wantUses("store", 1)
	h.docker("stop", "box")
	h.wantMounts(0)
	h.docker("start", "box")
	h.wantBeating("box")
}

// The engine does not repeat an Unmount that it could not deliver.
func TestContainerStopsWhileDvoldIsDown(t *testing.T) {
	h := ownHost(t)
	h.start("box", idle, "-v", "store:/data")
	h.must(h.KillDvold())
	h.docker("kill", "box") // returns before the engine gives up on dvold
	h.must(h.StartDvold(h.ctx))
	h.docker("rm", "-f", "box")
	h.docker("volume", "rm", "store")
	h.wantMounts(0)
}

func TestSecondDvoldRefusesSameState(t *testing.T) {
	h := sharedHost(t)
	h.create("store")
	tests := map[string][]string{
		"other sockets": {"--docker-socket", "/run/other.sock", "--admin-socket", "/run/other-admin.sock"},
		"same sockets":  nil,
	}
	for name, args := range tests {
		_, err := h.Exec(h.ctx, h.DvoldCommand(args...)...)
		h.wantError(err, []string{"dvold"}, "second dvold, "+name)
		if err != nil && !strings.Contains(err.Error(), "running") && !strings.Contains(err.Error(), "in use") {
			t.Errorf("second dvold, %s: %v; want it to say that another one runs", name, err)
		}
	}
	want(t, "content", h.sh("touch /data/file; ls /data", "-v", "store:/data"), "file")
}

func TestDvoldStopsWhileContainersStart(t *testing.T) {
	const n = 6
	h := ownHost(t)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = h.Docker(h.ctx, "run", "-d", "--name", "box"+strconv.Itoa(i), "--volume-driver", "dvol",
				"--stop-signal", "KILL", "-v", fmt.Sprintf("store%d:/data", i), lab.BusyBox, "sh", "-c", beat)
		})
	}
	h.eventually("first mount", func() bool {
		mounts, err := h.Mounts("/run/dvol/mnt")
		h.must(err)
		return len(mounts) > 0
	})
	if err := h.StopDvold(); err != nil {
		t.Error(err)
	}
	h.must(h.StartDvold(h.ctx))
	wg.Wait()
	running := 0
	for i, err := range errs {
		if err == nil {
			h.wantBeating("box" + strconv.Itoa(i))
			running++
		} else if !strings.Contains(err.Error(), "dvol") {
			t.Errorf("error %v doesn't name dvol", err)
		}
	}
	if running == 0 {
		t.Error("no container started")
	}
	h.wantMounts(running)
}

// A Get that got lost with dvold is repeated by the engine without its body
// (moby#35459). An error for an answer would make the engine forget the labels.
func TestEngineKeepsLabelsWhenGetIsLost(t *testing.T) {
	h := ownHost(t)
	h.create("store", "--label", "team=blue")
	label := []string{"volume", "inspect", "store", "--format", `{{index .Labels "team"}}`}
	want(t, "label", h.docker(label...), "blue")
	h.must(h.FreezeDvold())
	asked := make(chan error, 1)
	go func() {
		_, err := h.Docker(h.ctx, label...)
		asked <- err
	}()
	h.eventually("engine asks dvold", func() bool { return h.waiting("/dvol.sock") })
	h.must(h.KillDvold())
	h.must(h.StartDvold(h.ctx))
	h.wantError(<-asked, nil, "the request that was lost")
	if !strings.Contains(h.Logs(), "the request is empty") {
		t.Error("the engine did not repeat the request without its body: this test has tested nothing")
	}
	want(t, "label", h.docker(label...), "blue")
	h.sh("touch /data/file", "-v", "store:/data")
	want(t, "label after use", h.docker(label...), "blue")
}

// waiting tells whether something waits to be read from a socket.
func (h *host) waiting(socket string) bool {
	h.t.Helper()
	out, err := h.Exec(h.ctx, "ss", "-xaH")
	h.must(err)
	for line := range strings.Lines(out) {
		// type, state, received and unread, …
		fields := strings.Fields(line)
		if strings.Contains(line, socket) && len(fields) > 2 && fields[2] != "0" {
			return true
		}
	}
	return false
}
