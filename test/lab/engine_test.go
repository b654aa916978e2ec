package lab_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// What tests ask of the engine itself is what the docker command does.
func TestEngine(t *testing.T) {
	h := startHost(t)
	ctx := t.Context()
	out, err := h.RunToEnd(ctx, lab.Container{Hostname: "named", Command: []string{"sh", "-c", "hostname; seq 100000 | tail -n 1; echo aside >&2"}})
	if want := "named\n100000"; err != nil || out != want {
		t.Errorf("a container printed %q (%v), want %q", out, err, want)
	}
	out, err = h.RunToEnd(ctx, lab.Container{Command: []string{"sh", "-c", "echo out; echo why >&2; exit 3"}})
	if out != "out" || err == nil || !strings.HasSuffix(err.Error(), "exit status 3: why") {
		t.Errorf("a container that fails: %q, %v", out, err)
	}
	if _, err := h.RunToEnd(ctx, lab.Container{Command: []string{"no-such-command"}}); err == nil || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("a container that can't start: %v", err)
	}
	if ids, err := h.Containers(ctx); err != nil || len(ids) != 0 {
		t.Errorf("containers: %v (%v), want none", ids, err)
	}

	check(t, h.CreateVolume(ctx, "local", "data", "type=tmpfs", "device=tmpfs"))
	if out := docker(t, h, "volume", "inspect", "-f", "{{.Driver}} {{.Options.type}}", "data"); out != "local tmpfs" {
		t.Errorf("the volume is %q", out)
	}
	c := lab.Container{Name: "box", Binds: []string{"data:/data"}, Driver: "local", Restart: "always", Command: []string{"sleep", "1000"}}
	check(t, h.Run(ctx, c))
	if err := h.Run(ctx, c); err == nil || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("another of that name: %v", err)
	}
	if is, err := h.Container(ctx, "box"); err != nil || !is.State.Running {
		t.Errorf("box: %+v (%v)", is, err)
	}
	if ids, err := h.Containers(ctx); err != nil || len(ids) != 1 || !slices.Equal(ids, strings.Fields(docker(t, h, "ps", "-q", "--no-trunc"))) {
		t.Errorf("containers: %v (%v), want one", ids, err)
	}
	check(t, h.RemoveContainers(ctx, "box", "nobody"))
	if _, err := h.Container(ctx, "box"); err == nil || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("box after it was removed: %v", err)
	}
}
